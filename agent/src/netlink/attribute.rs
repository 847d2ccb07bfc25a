//! Attributes as bytes: what is interpreted is decoded from here, the rest carried as it is.

use pointsman_core::model::Attribute;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `NLA_TYPE_MASK`: the number without `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
const TYPE_MASK: u16 = 0x3fff;

/// What is wrong with a message's bytes.
#[derive(Debug)]
pub(super) struct Malformed(pub(super) String);

/// A result of decoding.
pub(super) type Decoded<T> = Result<T, Malformed>;

/// One attribute of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raw<'a> {
    kind_and_flags: u16,
    pub(super) value: &'a [u8],
}

impl<'a> Raw<'a> {
    pub(super) fn kind(&self) -> u16 {
        self.kind_and_flags & TYPE_MASK
    }

    pub(super) fn u8(&self) -> Decoded<u8> {
        Ok(u8::from_ne_bytes(self.sized()?))
    }

    pub(super) fn u32(&self) -> Decoded<u32> {
        Ok(u32::from_ne_bytes(self.sized()?))
    }

    pub(super) fn ip(&self) -> Decoded<IpAddr> {
        if let Ok(octets) = <[u8; 4]>::try_from(self.value) {
            return Ok(Ipv4Addr::from(octets).into());
        }
        Ok(Ipv6Addr::from(self.sized::<16>()?).into())
    }

    /// A string up to its NUL.
    pub(super) fn text(&self) -> Decoded<String> {
        let bytes = self.value.split(|byte| *byte == 0).next().unwrap_or_default();
        let text = std::str::from_utf8(bytes)
            .map_err(|error| Malformed(format!("attribute {}: {error}", self.kind())))?;
        Ok(text.to_owned())
    }

    /// The value's first bytes; kernels append to structures.
    pub(super) fn head<const N: usize>(&self) -> Decoded<[u8; N]> {
        self.value.first_chunk::<N>().copied().ok_or_else(|| self.wrong_size(N))
    }

    pub(super) fn nested(&self) -> Decoded<Vec<Raw<'a>>> {
        parse(self.value)
    }

    pub(super) fn verbatim(&self) -> Attribute {
        Attribute { kind: self.kind_and_flags, value: hex(self.value) }
    }

    fn sized<const N: usize>(&self) -> Decoded<[u8; N]> {
        <[u8; N]>::try_from(self.value).ok().ok_or_else(|| self.wrong_size(N))
    }

    fn wrong_size(&self, wanted: usize) -> Malformed {
        let (kind, found) = (self.kind(), self.value.len());
        Malformed(format!("attribute {kind} has {found} bytes instead of {wanted}"))
    }
}

/// The attributes of a message or of a nest, all of them or an error.
pub(super) fn parse(mut bytes: &[u8]) -> Decoded<Vec<Raw<'_>>> {
    let mut found = Vec::with_capacity(8);
    while !bytes.is_empty() {
        let Some(([a, b, c, d], _)) = bytes.split_first_chunk::<4>() else {
            return Err(Malformed(format!("{} bytes behind the last attribute", bytes.len())));
        };
        let length = usize::from(u16::from_ne_bytes([*a, *b]));
        let kind_and_flags = u16::from_ne_bytes([*c, *d]);
        let Some(value) = bytes.get(4..length) else {
            let have = bytes.len();
            return Err(Malformed(format!("an attribute of {length} bytes where {have} are left")));
        };
        found.push(Raw { kind_and_flags, value });
        bytes = bytes.get(align(length)..).unwrap_or_default();
    }
    Ok(found)
}

/// Appends an attribute.
pub(super) fn push(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    // a netlink attribute's length is 16 bits wide; nothing here comes near
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    message.extend_from_slice(&length.to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(value);
    message.resize(align(message.len()), 0);
}

/// Appends an attribute that holds an address.
pub(super) fn push_ip(message: &mut Vec<u8>, kind: u16, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => push(message, kind, &ip.octets()),
        IpAddr::V6(ip) => push(message, kind, &ip.octets()),
    }
}

/// Appends an attribute that was carried verbatim.
pub(super) fn push_verbatim(message: &mut Vec<u8>, attribute: &Attribute) -> Decoded<()> {
    let value = unhex(&attribute.value).ok_or_else(|| {
        Malformed(format!("attribute {}: not hexadecimal: {}", attribute.kind, attribute.value))
    })?;
    push(message, attribute.kind, &value);
    Ok(())
}

/// `NLMSG_ALIGN`, `NLA_ALIGN`, `RTA_ALIGN`.
pub(super) fn align(length: usize) -> usize {
    length.next_multiple_of(4)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|digit| digit.to_digit(16).and_then(|value| u8::try_from(value).ok()))
        .collect();
    let digits = digits?;
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    Some(pairs.map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

/// `aa:bb:cc:dd:ee:ff`.
pub(super) fn mac_text(bytes: &[u8]) -> String {
    let parts: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    parts.join(":")
}

/// The bytes of `aa:bb:cc:dd:ee:ff`.
pub(super) fn mac_bytes(text: &str) -> Option<Vec<u8>> {
    unhex(&text.replace(':', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_survive_the_way_there_and_back() {
        let mut bytes = Vec::new();
        push(&mut bytes, 1, &[7]);
        push(&mut bytes, 0x8002, b"eth1\0");
        let found = parse(&bytes).unwrap();
        assert_eq!(found[0].u8().unwrap(), 7);
        assert_eq!((found[1].kind(), found[1].text().unwrap().as_str()), (2, "eth1"));
        let kept = found[1].verbatim();
        assert_eq!(kept, Attribute { kind: 0x8002, value: "6574683100".into() });
        let mut again = Vec::new();
        push(&mut again, 1, &[7]);
        push_verbatim(&mut again, &kept).unwrap();
        assert_eq!(again, bytes);
    }

    #[test]
    fn a_truncated_attribute_is_an_error() {
        let mut bytes = Vec::new();
        push(&mut bytes, 1, &[1, 2, 3, 4]);
        assert!(parse(&bytes[..6]).is_err());
        assert!(parse(&bytes[..3]).is_err());
        assert!(parse(&[0, 0, 1, 0]).is_err(), "a length below the header's");
        assert!(parse(&bytes).unwrap()[0].u8().is_err(), "four bytes are no u8");
    }
}
