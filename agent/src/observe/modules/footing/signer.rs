//! Whose signature a module carries, and which keys the running kernel has.
//!
//! A module ends in a PKCS#7 message, its length and a mark (`scripts/sign-file.c`,
//! `include/linux/module_signature.h`). The message names its signer's certificate by issuer
//! and serial number, or by the key's own identifier (RFC 5652, 5.3).

use super::super::compressed::plain;
use crate::disk::HostRoot;
use pointsman_core::model::{Signer, TrustedKey};

const MARK: &[u8] = b"~Module signature appended~\n";
/// `struct module_signature`.
const DESCRIPTOR: usize = 12;
/// `id_type` of a PKCS#7 message.
const PKCS7: u8 = 2;
/// 2.5.4.3, `commonName`, as DER.
const COMMON_NAME: [u8; 5] = [0x06, 0x03, 0x55, 0x04, 0x03];

/// None where the signature is of another form, or damaged: the kernel may judge it.
pub fn signer(bytes: &[u8]) -> Option<Signer> {
    let plain = plain(bytes).ok()?;
    let rest = plain.strip_suffix(MARK)?;
    let (rest, descriptor) = rest.split_at_checked(rest.len().checked_sub(DESCRIPTOR)?)?;
    if *descriptor.get(2)? != PKCS7 {
        return None;
    }
    let length = u32::from_be_bytes(descriptor.get(8..)?.try_into().ok()?);
    let length = usize::try_from(length).ok()?;
    of_message(rest.get(rest.len().checked_sub(length)?..)?)
}

fn of_message(message: &[u8]) -> Option<Signer> {
    // ContentInfo: the type, and the SignedData in [0]
    let mut content = Reader(Reader(message).expect(0x30)?);
    content.expect(0x06)?;
    let mut data = Reader(Reader(content.expect(0xa0)?).expect(0x30)?);
    // version, digest algorithms, content; then certificates and lists that need not be there
    data.expect(0x02)?;
    data.expect(0x31)?;
    data.expect(0x30)?;
    let signers = loop {
        match data.next()? {
            (0x31, signers) => break signers,
            (0xa0 | 0xa1, _) => {}
            _ => return None,
        }
    };
    let mut info = Reader(Reader(signers).expect(0x30)?);
    info.expect(0x02)?;
    match info.next()? {
        (0x80, id) => Some(Signer { id: hex(id), by_key: true, issuer: None }),
        (0x30, both) => {
            let mut both = Reader(both);
            let issuer = common_name(both.expect(0x30)?);
            // a leading zero keeps the number positive
            let serial = both.expect(0x02)?;
            let serial = serial.strip_prefix(&[0]).filter(|s| !s.is_empty()).unwrap_or(serial);
            Some(Signer { id: hex(serial), by_key: false, issuer })
        }
        _ => None,
    }
}

fn common_name(name: &[u8]) -> Option<String> {
    let at = name.windows(COMMON_NAME.len()).position(|window| window == COMMON_NAME)?;
    let (_, text) = Reader(name.get(at + COMMON_NAME.len()..)?).next()?;
    String::from_utf8(text.to_vec()).ok()
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

/// DER: a tag of one byte, a length, the contents (X.690, 8.1).
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], rest) = self.0.split_first_chunk()?;
        let (length, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            // an indefinite length is none of DER
            let digits = digits.get(..).filter(|d| (1..=4).contains(&d.len()))?;
            (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), rest)
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, contents))
    }

    fn expect(&mut self, wanted: u8) -> Option<&'a [u8]> {
        self.next().filter(|(tag, _)| *tag == wanted).map(|(_, contents)| contents)
    }
}

/// The asymmetric keys that this process may see; none where it sees none, which says nothing
/// of what the kernel has.
pub(super) fn keys(root: &HostRoot) -> Vec<TrustedKey> {
    let text = root.read("/proc/keys", 4 << 20).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().filter_map(key).collect()
}

/// `ID FLAGS USAGE TIMEOUT PERM UID GID asymmetri NAME: HEX: X509.rsa …` (keys(7); the name is
/// made by `crypto/asymmetric_keys/x509_public_key.c`, and HEX is the key's identifier where
/// the certificate has one, else its serial number).
fn key(line: &str) -> Option<TrustedKey> {
    let (_, description) = line.split_once(" asymmetri")?;
    let description = description.trim_start_matches('c').trim_start();
    let (before, _) =
        description.split_once(": X509.").or_else(|| description.split_once(": PKCS"))?;
    let (name, id) = before.rsplit_once(": ")?;
    let is_hex = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| TrustedKey { name: name.to_owned(), id: id.to_ascii_lowercase() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_the_kernel_prints_them() {
        let line = "0b46db98 I------     1 perm 1f030000     0     0 asymmetri Debian Secure Boot CA: \
                    6ccece7e4c6c0d1f6149f3dd27dfcc5cbb419ea1: X509.rsa bb419ea1 []";
        let key = key(line).unwrap();
        assert_eq!(key.name, "Debian Secure Boot CA");
        assert_eq!(key.id, "6ccece7e4c6c0d1f6149f3dd27dfcc5cbb419ea1");
        for other in [
            "03b6440e I------     1 perm 1f0b0000     0     0 keyring   .builtin_trusted_keys: empty",
            "13ec3fd5 I------     1 perm 1f0b0000     0     0 asymmetri odd: X509.rsa",
            "",
        ] {
            assert_eq!(super::key(other), None, "{other}");
        }
    }

    #[test]
    fn garbage_is_no_signer_and_no_panic() {
        let mut bytes = vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0x06, 0x80];
        for end in 0..bytes.len() {
            assert_eq!(of_message(&bytes[..end]), None);
        }
        bytes.extend([0, 0, PKCS7, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
        bytes.extend(MARK);
        assert_eq!(signer(&bytes), None);
        assert_eq!(signer(MARK), None);
    }
}
