use super::*;
use std::os::unix::fs::symlink;

/// A host of empty directories, with images.
struct Host(tempfile::TempDir);

impl Host {
    fn new(releases: &[&str]) -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        for release in releases {
            host.put(&format!("boot/vmlinuz-{release}"), "");
        }
        host
    }

    fn put(&self, path: &str, contents: &str) {
        let at = self.0.path().join(path);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(at, contents).unwrap();
    }

    fn variable(&self, name: &str, value: &str) {
        let units = value.encode_utf16().chain([0]).flat_map(u16::to_le_bytes);
        let bytes: Vec<u8> = [7, 0, 0, 0].into_iter().chain(units).collect();
        let at = self
            .0
            .path()
            .join(format!("sys/firmware/efi/efivars/{name}-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"));
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(at, bytes).unwrap();
    }

    fn observe(&self) -> BootLoader {
        observe(&HostRoot::new(self.0.path()), "/lib/modules")
    }

    fn next(&self) -> (Option<String>, String) {
        let next = self.observe().next;
        (next.release, next.how)
    }
}

const OLD: &str = "6.1.0-50-amd64";
const NEW: &str = "6.1.0-56-amd64";

fn is(release: &str, how: &str) -> (Option<String>, String) {
    (Some(release.into()), how.into())
}

/// In the form that `grub-mkconfig` of Debian writes.
fn grub_cfg(default: &str) -> String {
    let entry = |release: &str, id: &str| {
        format!(
            "menuentry 'Debian GNU/Linux, with Linux {release}' --class debian \
             $menuentry_id_option 'gnulinux-{id}' {{\n\tload_video\n\tif [ x$grub_platform = xxen ]; \
             then insmod xzio; fi\n\techo 'Loading Linux {release} ...'\n\tlinux /boot/vmlinuz-{release} \
             root=UUID=1 ro quiet\n\tinitrd /boot/initrd.img-{release}\n}}\n"
        )
    };
    format!(
        "if [ -s $prefix/grubenv ]; then\n  set have_grubenv=true\n  load_env\nfi\n\
         if [ \"${{next_entry}}\" ] ; then\n   set default=\"${{next_entry}}\"\n   set next_entry=\n\
         else\n   set default=\"{default}\"\nfi\n\
         function savedefault {{\n  if [ -z \"${{boot_once}}\" ]; then\n    saved_entry=\"${{chosen}}\"\n  \
         fi\n}}\n\
         {first}submenu 'Advanced options' $menuentry_id_option 'gnulinux-advanced' {{\n{new}{old}}}\n\
         menuentry \"Memory test\" {{\n\tlinux16 /boot/memtest86+x64.bin\n}}\n",
        first = entry(NEW, "simple").replace(&format!(", with Linux {NEW}"), ""),
        new = entry(NEW, &format!("{NEW}-advanced")),
        old = entry(OLD, &format!("{OLD}-advanced")),
    )
}

#[test]
fn grubs_default_is_followed_by_number_id_and_title() {
    let host = Host::new(&[OLD, NEW]);
    for (default, expected) in [
        ("0", NEW),
        ("1>1", OLD),
        ("1>0", NEW),
        ("gnulinux-simple", NEW),
        (&*format!("gnulinux-advanced>gnulinux-{OLD}-advanced"), OLD),
        (&*format!("Advanced options>Debian GNU/Linux, with Linux {OLD}"), OLD),
    ] {
        host.put("boot/grub/grub.cfg", &grub_cfg(default));
        assert_eq!(host.next(), is(expected, &format!("by default `{default}` of /boot/grub")));
    }
    for (default, why) in [
        ("7", "by default `7` of /boot/grub, which is no entry of its menu"),
        ("1", "by default `1` of /boot/grub, which is a menu and no entry"),
        ("0>1", "by default `0>1` of /boot/grub, which is no entry of its menu"),
        ("${fancy}", "/boot/grub/grub.cfg decides by a script: `set default=${fancy}`"),
    ] {
        host.put("boot/grub/grub.cfg", &grub_cfg(default));
        assert_eq!(host.next(), (None, why.to_owned()));
    }
    host.put("boot/grub/grub.cfg", &grub_cfg("2"));
    assert_eq!(host.observe().next.release, None, "memtest is no kernel");
}

#[test]
fn grubs_environment_overrules_its_file() {
    let host = Host::new(&[OLD, NEW]);
    host.put("boot/grub/grub.cfg", &grub_cfg("${saved_entry}"));
    assert_eq!(host.next(), is(NEW, "by the first entry `0` of /boot/grub"));
    host.put("boot/grub/grubenv", "# GRUB Environment Block\nsaved_entry=1>1\n#####");
    assert_eq!(host.next(), is(OLD, "by saved_entry `1>1` of /boot/grub"));
    host.put("boot/grub/grubenv", "# GRUB Environment Block\nsaved_entry=1>1\nnext_entry=0\n###");
    assert_eq!(host.next(), is(NEW, "by next_entry `0` of /boot/grub"));
}

#[test]
fn red_hats_entries_are_grubs_menu() {
    let (old, new) = ("5.14.0-70.el9.x86_64", "5.14.0-427.el9.x86_64");
    let host = Host::new(&[old, new]);
    host.put("boot/vmlinuz-0-rescue-0123", "");
    let cfg = "if [ \"${next_entry}\" ] ; then\n   set default=\"${next_entry}\"\nelse\n   \
               set default=\"${saved_entry}\"\nfi\ninsmod blscfg\nblscfg\n";
    host.put("boot/grub2/grub.cfg", cfg);
    for release in [old, new] {
        let text =
            format!("title Linux ({release})\nversion {release}\nlinux /vmlinuz-{release}\n");
        host.put(&format!("boot/loader/entries/abc-{release}.conf"), &text);
    }
    assert_eq!(host.next(), is(new, "by the first entry `0` of /boot/grub2"));
    host.put("boot/grub2/grubenv", &format!("saved_entry=abc-{old}\n"));
    assert_eq!(host.next(), is(old, &format!("by saved_entry `abc-{old}` of /boot/grub2")));
    let images: Vec<String> = host.observe().images.into_keys().collect();
    assert_eq!(images, [new, old]);
}

#[test]
fn systemd_boots_variables_overrule_its_file_and_that_its_order() {
    let host = Host::new(&[]);
    host.put("efi/loader/loader.conf", "timeout 3\n");
    for (file, release) in [("debian-6.1.0-50-amd64", OLD), ("debian-6.1.0-56-amd64+0-3", NEW)] {
        let text = format!(
            "title Debian\nsort-key debian\nversion {release}\nlinux /abc/{release}/linux\n"
        );
        host.put(&format!("efi/loader/entries/{file}.conf"), &text);
    }
    // the newer one has no try left
    let first = "by the first entry of systemd-boot's menu, debian-6.1.0-50-amd64";
    assert_eq!(host.next(), is(OLD, first));
    host.put("efi/loader/loader.conf", "default debian-*-56-*\n");
    let how = "by `default` of loader.conf, entry debian-6.1.0-56-amd64";
    assert_eq!(host.next(), is(NEW, how));
    host.variable("LoaderEntryDefault", "debian-6.1.0-50-amd64.conf");
    assert_eq!(host.next(), is(OLD, "by LoaderEntryDefault, entry debian-6.1.0-50-amd64"));
    host.variable("LoaderEntryOneShot", "windows.conf");
    assert_eq!(host.observe().next.release, None);
    // a GRUB that lies there from earlier is asked only where systemd-boot did not start this
    host.put("boot/grub/grub.cfg", &grub_cfg("0"));
    assert_eq!(host.next().0, Some(NEW.into()));
    host.variable("LoaderInfo", "systemd-boot 252.39");
    assert_eq!(host.observe().next.release, None);
}

#[test]
fn without_a_loader_a_link_tells_and_without_that_it_is_a_guess() {
    let host = Host::new(&[]);
    assert_eq!(host.next().0, None);
    host.put(&format!("boot/vmlinuz-{OLD}"), "");
    assert_eq!(host.next().0, Some(OLD.into()));
    host.put(&format!("lib/modules/{NEW}/vmlinuz"), "");
    let (release, how) = host.next();
    assert_eq!(release, Some(NEW.into()));
    assert!(how.starts_with("a guess: "), "{how}");
    symlink(format!("boot/vmlinuz-{OLD}"), host.0.path().join("vmlinuz")).unwrap();
    assert_eq!(host.next(), is(OLD, "by the link /vmlinuz"));
}

#[test]
fn no_text_makes_the_reader_fail() {
    let host = Host::new(&[OLD]);
    let whole = grub_cfg("1>1");
    for end in 0..whole.len() {
        host.put("boot/grub/grub.cfg", whole.get(..end).unwrap_or_default());
        drop(host.observe());
    }
    host.put("boot/grub/grub.cfg", &"submenu x {\n".repeat(100_000));
    assert_eq!(host.observe().next.release, None);
}
