use super::*;
use crate::model::*;
use crate::payload::{Manifest, ModuleFile, ModuleSet, Payload};

const RUNNING: &str = "6.1.0-56-amd64";
const NEWER: &str = "6.12.1-amd64";
const OWN: [&str; 4] = ["openvswitch", "vport-geneve", "vport-gre", "vport-vxlan"];

fn identity(build_id: &str) -> Identity {
    Identity { build_id: Some(build_id.into()), ..Identity::default() }
}

fn digest(set: &str, stem: &str) -> Digest {
    Digest::of(format!("{set} {stem}").as_bytes())
}

fn learn(observed: &mut Observed, (set, stem): (&str, &str), vermagic: &str) {
    let facts = ModuleFacts {
        name: Some(loaded_name(stem)),
        identity: identity(&format!("{set}-{stem}")),
        vermagic: Some(vermagic.into()),
        ..ModuleFacts::default()
    };
    observed.modules.facts.insert(digest(set, stem), facts);
}

fn add_kernel(observed: &mut Observed, release: &str) {
    let mut winners = std::collections::BTreeMap::new();
    for stem in OWN {
        let set = format!("own-{release}");
        learn(observed, (&set, stem), release);
        let inside = format!("kernel/net/openvswitch/{stem}.ko");
        let sha256 = digest(&set, stem);
        let state = FileState::Regular { mode: 0o644, size: 0, sha256 };
        observed.files.insert(format!("/lib/modules/{release}/{inside}"), state);
        winners.insert(stem.into(), IndexEntry { path: inside, depends: vec![] });
    }
    let kernel = KernelModules {
        release: release.into(),
        running: release == RUNNING,
        builtin: Vec::new(),
        vermagic: Some(release.into()),
        index: Index::Present { winners },
    };
    observed.modules.kernels.push(kernel);
}

/// Two kernels, a payload for the running one, the newer one next.
fn host() -> Observed {
    let mut observed = Observed::default();
    observed.host.kernel = RUNNING.into();
    add_kernel(&mut observed, RUNNING);
    add_kernel(&mut observed, NEWER);
    let file = |stem: &str| ModuleFile {
        path: format!("modules/{stem}.ko"),
        sha256: digest("nsx", stem),
        build_id: format!("nsx-{stem}"),
    };
    for stem in MODULE_STEMS {
        learn(&mut observed, ("nsx", stem), RUNNING);
    }
    let set = ModuleSet {
        version: "2".into(),
        kernels: vec![RUNNING.into()],
        files: MODULE_STEMS.iter().map(|stem| ((*stem).to_owned(), file(stem))).collect(),
    };
    let manifest = Manifest { modules: vec![set], cni: None };
    observed.payload = Some(Payload { manifest, faults: std::collections::BTreeMap::new() });
    let image = |release: &str| (release.to_owned(), format!("/boot/vmlinuz-{release}"));
    observed.boot_loader = Some(BootLoader {
        images: [RUNNING, NEWER].map(image).into(),
        next: NextBoot::is(NEWER, "by default `0` of /boot/grub"),
    });
    observed
}

fn kernels(observed: &Observed) -> Kernels {
    Kernels::of(observed, &Paths::default())
}

#[test]
fn the_annotation_has_a_line_for_each_kernel() {
    assert_eq!(
        kernels(&host()).annotation(),
        "6.1.0-56-amd64 ready=both set=in-tree boot=running\n\
         6.12.1-amd64 ready=upstream set=in-tree boot=next nsx=NoPayloadForKernel"
    );
    let mut blind = host();
    blind.boot_loader = None;
    blind.payload = None;
    assert_eq!(
        kernels(&blind).annotation(),
        "6.1.0-56-amd64 ready=upstream set=in-tree boot=running,unknown nsx=NoPayload\n\
         6.12.1-amd64 ready=upstream set=in-tree boot=unknown nsx=NoPayload"
    );
}

#[test]
fn an_annotation_of_many_kernels_is_cut_at_a_line() {
    let mut observed = host();
    for number in 0..500 {
        add_kernel(&mut observed, &format!("7.{number}"));
    }
    let text = kernels(&observed).annotation();
    assert!(text.len() < 8 << 10, "{}", text.len());
    assert!(text.lines().all(|line| line.contains(" set=in-tree")), "{text}");
}

#[test]
fn the_tree_of_a_removed_kernel_is_a_leftover_where_images_are_seen() {
    let mut observed = host();
    observed.boot_loader.as_mut().unwrap().images.remove(NEWER);
    let found = kernels(&observed);
    assert_eq!((found.kernels[1].leftover, found.kernels[1].ready), (true, Ready::Neither));
    assert!(found.annotation().ends_with(
        "6.12.1-amd64 ready=neither set=in-tree boot=next,leftover \
         nsx=KernelImageMissing upstream=KernelImageMissing"
    ));
    observed.boot_loader.as_mut().unwrap().images.clear();
    assert!(!kernels(&observed).kernels[1].leftover);
}

#[test]
fn a_kernel_without_openvswitch_is_ready_for_nsx_alone_and_a_builtin_one_for_its_own() {
    let mut observed = host();
    let own = format!("/lib/modules/{RUNNING}/kernel/net/openvswitch/openvswitch.ko");
    observed.files.remove(&own);
    let found = kernels(&observed).kernels.remove(0);
    assert_eq!((found.ready, found.set), (Ready::Nsx, ModuleState::None));
    assert_eq!(found.upstream.why().unwrap().reason, "UpstreamMissing");
    assert_eq!(found.faults[0].reason, "IndexStale");
    let mut observed = host();
    observed.modules.kernels[1].builtin = vec!["openvswitch".into()];
    let found = kernels(&observed).kernels.remove(1);
    assert_eq!((found.ready, found.upstream), (Ready::Upstream, Fitness::OnDisk));
    assert_eq!(found.nsx.why().unwrap().reason, "ModuleBuiltin");
}

#[test]
fn what_cannot_be_told_is_unknown() {
    let mut observed = host();
    observed.modules.kernels[0].vermagic = None;
    let own = format!("/lib/modules/{RUNNING}/kernel/net/openvswitch/openvswitch.ko");
    observed.files.remove(&own);
    let found = kernels(&observed).kernels.remove(0);
    assert!(matches!(found.nsx, Fitness::Unknown(_)), "{:?}", found.nsx);
    assert_eq!(found.ready, Ready::Unknown);
}

#[test]
fn a_damaged_index_is_named_and_the_kernel_can_be_made_ready() {
    let mut observed = host();
    observed.modules.kernels[0].index = Index::Missing;
    observed.modules.kernels[1].index = Index::Unreadable { why: "it is cut".into() };
    let found = kernels(&observed);
    let reasons = found.kernels.iter().map(|kernel| &*kernel.faults[0].reason);
    assert!(reasons.eq(["IndexMissing", "IndexUnreadable"]));
    for kernel in &found.kernels {
        assert!(matches!(kernel.upstream, Fitness::Stageable { .. }), "{kernel:?}");
        assert_eq!(kernel.set, ModuleState::None);
    }
}

#[test]
fn who_boots_next_unready_for_the_profile_is_warned_of() {
    let mut observed = host();
    let warning = |observed: &Observed, choice| kernels(observed).warning(choice);
    assert_eq!(warning(&observed, ModulesChoice::InTree), None);
    assert_eq!(warning(&observed, ModulesChoice::Leave), None);
    let told = warning(&observed, ModulesChoice::Payload).unwrap();
    assert_eq!(told.reason, "KernelNotReady");
    assert!(told.message.contains("NoPayloadForKernel"), "{}", told.message);
    // the running one is what the profile's own plan is about
    observed.boot_loader.as_mut().unwrap().next = NextBoot::is(RUNNING, "x");
    assert_eq!(warning(&observed, ModulesChoice::Payload), None);
    observed.boot_loader.as_mut().unwrap().next = NextBoot::unknown("x");
    assert_eq!(warning(&observed, ModulesChoice::Payload), None);
    // its own set, but not as its index is now
    observed.boot_loader.as_mut().unwrap().next = NextBoot::is(NEWER, "x");
    observed.modules.kernels[1].index = Index::Missing;
    let told = warning(&observed, ModulesChoice::InTree).unwrap();
    assert!(told.message.contains("modules apply --to in-tree --kernel 6.12.1-amd64"));
}

fn loaded(observed: &mut Observed, name: &str, identity: Identity) {
    let module = LoadedModule { name: name.into(), identity, ..LoadedModule::default() };
    observed.modules.loaded.push(module);
}

#[test]
fn each_loaded_module_is_told_by_its_build() {
    let mut observed = host();
    let own = format!("own-{RUNNING}-openvswitch");
    loaded(&mut observed, "openvswitch", identity(&own));
    loaded(&mut observed, "vport_geneve", identity("nsx-vport-geneve"));
    loaded(&mut observed, "vport_gre", identity("somebody-elses"));
    loaded(&mut observed, "vport_vxlan", Identity::default());
    let found = kernels(&observed).kernels.remove(0).loaded;
    let told: Vec<_> = found.iter().map(|module| (module.set, module.witness)).collect();
    assert_eq!(
        told,
        [
            (Some(ModuleState::InTree), Witness::BuildId),
            (Some(ModuleState::Nsx), Witness::BuildId),
            (None, Witness::Foreign),
            (None, Witness::Unproven),
        ]
    );
}

#[test]
fn weaker_witnesses_count_where_they_are_of_one_set_only() {
    let facts = |observed: &mut Observed, set: &str, identity: Identity| {
        let facts = observed.modules.facts.get_mut(&digest(set, "openvswitch")).unwrap();
        facts.identity = identity;
    };
    let of = |srcversion: Option<&str>, version: Option<&str>| Identity {
        build_id: None,
        srcversion: srcversion.map(str::to_owned),
        version: version.map(str::to_owned),
    };
    let own = format!("own-{RUNNING}");
    for (file, module, expected) in [
        (
            of(Some("a"), None),
            of(Some("a"), None),
            (Some(ModuleState::InTree), Witness::Srcversion),
        ),
        (of(None, Some("1")), of(None, Some("1")), (Some(ModuleState::InTree), Witness::Version)),
        // the payload's says a build id only, and may be the one
        (of(Some("a"), None), of(Some("b"), None), (None, Witness::Unproven)),
        // both empty is no agreement
        (of(None, None), of(None, None), (None, Witness::Unproven)),
    ] {
        let mut observed = host();
        facts(&mut observed, &own, file);
        loaded(&mut observed, "openvswitch", module);
        let found = kernels(&observed).kernels.remove(0).loaded.remove(0);
        assert_eq!((found.set, found.witness), expected);
    }
    // a file that says nothing may be the one
    let mut observed = host();
    facts(&mut observed, &own, of(None, None));
    loaded(&mut observed, "openvswitch", identity("another"));
    let found = kernels(&observed).kernels.remove(0).loaded.remove(0);
    assert_eq!((found.set, found.witness), (None, Witness::Unproven));
    // the payload says the same version: it may be either
    let mut observed = host();
    facts(&mut observed, &own, of(None, Some("1")));
    facts(&mut observed, "nsx", of(None, Some("1")));
    loaded(&mut observed, "openvswitch", of(None, Some("1")));
    let found = kernels(&observed).kernels.remove(0).loaded.remove(0);
    assert_eq!((found.set, found.witness), (None, Witness::Unproven));
}

#[test]
fn a_set_of_two_versions_is_mixed_whoever_it_belongs_to() {
    let mut observed = host();
    let mut winners = std::collections::BTreeMap::new();
    for (stem, version) in [("openvswitch", "1"), ("vport-gre", "2")] {
        let inside = format!("updates/{stem}.ko");
        let sha256 = digest("user", stem);
        learn(&mut observed, ("user", stem), RUNNING);
        let facts = observed.modules.facts.get_mut(&sha256).unwrap();
        facts.identity.version = Some(version.into());
        let state = FileState::Regular { mode: 0o644, size: 0, sha256 };
        observed.files.insert(format!("/lib/modules/{RUNNING}/{inside}"), state);
        winners.insert(stem.to_owned(), IndexEntry { path: inside, depends: vec![] });
    }
    observed.modules.kernels[0].index = Index::Present { winners };
    assert_eq!(kernels(&observed).kernels[0].set, ModuleState::Mixed);
    let facts = observed.modules.facts.get_mut(&digest("user", "vport-gre")).unwrap();
    facts.identity.version = Some("1".into());
    assert_eq!(kernels(&observed).kernels[0].set, ModuleState::User);
}

#[test]
fn a_package_manager_at_work_changes_no_verdict() {
    let mut observed = host();
    let quiet = kernels(&observed);
    observed.modules.footing.busy = Some(Busy { pid: Some(1), name: "dpkg".into(), lock: None });
    assert_eq!(kernels(&observed), quiet);
}
