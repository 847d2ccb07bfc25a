//! Signatures as the kernel's `sign-file` makes them, with real keys and certificates.

use super::bench::{Bench, parts, run};
use super::footing::{put, refusal_of};
use pointsman::observe::modules::signer;
use pointsman_core::model::MODULE_STEMS;
use std::fs;
use std::path::Path;

const ENFORCE: &str = "sys/module/module/parameters/sig_enforce";

/// A certificate that signed itself, as a machine owner's is.
fn certificate(at: &Path) {
    let at = at.to_str().unwrap();
    run(
        "openssl",
        &[
            "req",
            "-new",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-batch",
            "-subj",
            "/O=Us/CN=Our modules/",
            "-addext",
            "subjectKeyIdentifier=hash",
            "-days",
            "7",
            "-outform",
            "PEM",
            "-keyout",
            &format!("{at}/key.pem"),
            "-out",
            &format!("{at}/cert.pem"),
        ],
    );
}

/// What `scripts/sign-file.c` does: a detached CMS without attributes and certificates, then
/// its descriptor and the mark.
fn sign(module: &Path, keys: &Path, by_key: bool) {
    let (keys, signature) = (keys.to_str().unwrap(), keys.join("signature"));
    let (cert, key) = (format!("{keys}/cert.pem"), format!("{keys}/key.pem"));
    let mut arguments = vec![
        "cms",
        "-sign",
        "-binary",
        "-noattr",
        "-nocerts",
        "-outform",
        "DER",
        "-md",
        "sha256",
        "-signer",
        &cert,
        "-inkey",
        &key,
        "-in",
        module.to_str().unwrap(),
        "-out",
        signature.to_str().unwrap(),
    ];
    arguments.extend(by_key.then_some("-keyid"));
    run("openssl", &arguments);
    let message = fs::read(signature).unwrap();
    let mut bytes = fs::read(module).unwrap();
    bytes.extend(&message);
    bytes.extend([0, 0, 2, 0, 0, 0, 0, 0]);
    bytes.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    bytes.extend(b"~Module signature appended~\n");
    fs::write(module, bytes).unwrap();
}

/// What openssl prints of the certificate, as the kernel's hexadecimal.
fn told(keys: &Path, what: &str) -> String {
    let cert = keys.join("cert.pem");
    let text = run(
        "openssl",
        &["x509", "-noout", "-in", cert.to_str().unwrap(), what, "subjectKeyIdentifier"],
    );
    let line = text.lines().last().unwrap();
    line.trim().replace(':', "").to_lowercase()
}

fn shown(bench: &Bench, id: &str) {
    let line = format!(
        "03b6440e I------     1 perm 1f0b0000     0     0 keyring   .builtin_trusted_keys: 1\n\
         0b46db98 I------     1 perm 1f030000     0     0 asymmetri Us: Our modules: {id}: X509.rsa {} []\n",
        &id[id.len() - 8..]
    );
    put(bench, "proc/keys", &line);
}

#[test]
fn a_key_that_the_kernel_has_not_is_told_before_anything_changes() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    let keys = tempfile::tempdir().unwrap();
    certificate(keys.path());
    for stem in MODULE_STEMS {
        sign(&bench.payload_file(stem), keys.path(), true);
    }
    let id = told(keys.path(), "-ext");
    let read = signer(&fs::read(bench.payload_file("openvswitch")).unwrap()).unwrap();
    assert_eq!((&read.id, read.by_key), (&id, true));
    let other = "6ccece7e4c6c0d1f6149f3dd27dfcc5cbb419ea1";
    shown(&bench, other);
    assert_eq!(
        refusal_of(&bench),
        Ok(Vec::new()),
        "a kernel that takes any module asks for no key"
    );
    put(&bench, ENFORCE, "Y\n");
    let refusal = refusal_of(&bench).unwrap_err();
    assert_eq!(refusal.reason, "SignatureRejected", "{refusal}");
    assert!(refusal.message.contains(&id), "{refusal}");
    shown(&bench, &id);
    assert_eq!(refusal_of(&bench), Ok(Vec::new()));
    put(
        &bench,
        "proc/keys",
        "03b6440e I------ 1 perm 1f0b0000 0 0 keyring   .builtin_trusted_keys: 1\n",
    );
    let notes = refusal_of(&bench).expect("what is not shown refuses nothing");
    assert!(notes.iter().any(|note| note.starts_with("SignatureUnproven: ")), "{notes:?}");
}

#[test]
fn a_signature_that_names_a_certificate_refuses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    let keys = tempfile::tempdir().unwrap();
    certificate(keys.path());
    for stem in MODULE_STEMS {
        sign(&bench.payload_file(stem), keys.path(), false);
    }
    let bytes = fs::read(bench.payload_file("openvswitch")).unwrap();
    let read = signer(&bytes).unwrap();
    assert_eq!((read.by_key, read.issuer.as_deref()), (false, Some("Our modules")));
    for end in (0..bytes.len()).rev().take(2000) {
        assert_eq!(signer(&bytes[..end]), None);
    }
    put(&bench, ENFORCE, "Y\n");
    shown(&bench, "6ccece7e4c6c0d1f6149f3dd27dfcc5cbb419ea1");
    let notes = refusal_of(&bench).unwrap();
    let note = notes.iter().find(|note| note.starts_with("SignatureUnproven: "));
    assert!(note.is_some_and(|note| note.contains("issued by Our modules")), "{notes:?}");
    shown(&bench, &read.id);
    assert_eq!(refusal_of(&bench), Ok(Vec::new()), "a key that is shown by its serial number");
    put(&bench, ENFORCE, "N\n");
    put(&bench, "sys/kernel/security/lockdown", "none [integrity] confidentiality\n");
    fs::copy(parts().vendor.join("vport-gre.ko"), bench.payload_file("vport-gre")).unwrap();
    let refusal = refusal_of(&bench).unwrap_err();
    assert_eq!(refusal.reason, "LockedDown");
    assert!(refusal.message.contains("vport-gre.ko"), "{refusal}");
}
