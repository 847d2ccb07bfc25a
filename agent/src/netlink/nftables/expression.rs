//! What a rule is made of: instructions that load into a register, compare it and act.

use super::{attribute, push_nest, push_number, push_text};

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NF_ACCEPT: u32 = 1;

const VERDICT: u32 = 0;
/// The one register that is used.
const REGISTER: u32 = 1;

/// What the kernel knows of a packet beside its bytes: `NFT_META_*`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Meta {
    DeviceType = 8,
    L4Protocol = 16,
    PacketType = 19,
}

/// Where a packet's bytes are counted from: `NFT_PAYLOAD_*_HEADER`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Base {
    Link = 0,
    Network = 1,
    Transport = 2,
}

/// `NFT_CMP_*`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Comparison {
    Equal = 0,
    Differs = 1,
    AtMost = 3,
    AtLeast = 5,
}

/// One instruction. A comparison that fails ends the rule.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expression<'a> {
    Meta(Meta),
    Payload {
        base: Base,
        offset: u32,
        length: u32,
    },
    Mask(&'a [u8]),
    Compare(Comparison, &'a [u8]),
    Accept,
    /// Takes the packet away, and sends it out by a device of this number.
    Forward(u32),
}

impl Expression<'_> {
    /// As elements of a rule's list.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut data = Vec::new();
        let name = match *self {
            Self::Meta(key) => {
                push_number(&mut data, 1, REGISTER); // NFTA_META_DREG
                push_number(&mut data, 2, key as u32); // NFTA_META_KEY
                "meta"
            }
            Self::Payload { base, offset, length } => {
                push_number(&mut data, 1, REGISTER); // NFTA_PAYLOAD_DREG
                push_number(&mut data, 2, base as u32); // NFTA_PAYLOAD_BASE
                push_number(&mut data, 3, offset); // NFTA_PAYLOAD_OFFSET
                push_number(&mut data, 4, length); // NFTA_PAYLOAD_LEN
                "payload"
            }
            Self::Mask(mask) => {
                push_number(&mut data, 1, REGISTER); // NFTA_BITWISE_SREG
                push_number(&mut data, 2, REGISTER); // NFTA_BITWISE_DREG
                push_number(&mut data, 3, u32::try_from(mask.len()).unwrap_or(u32::MAX));
                push_nest(&mut data, 4, &value(mask)); // NFTA_BITWISE_MASK
                push_nest(&mut data, 5, &value(&vec![0; mask.len()])); // NFTA_BITWISE_XOR
                "bitwise"
            }
            Self::Compare(comparison, with) => {
                push_number(&mut data, 1, REGISTER); // NFTA_CMP_SREG
                push_number(&mut data, 2, comparison as u32); // NFTA_CMP_OP
                push_nest(&mut data, 3, &value(with)); // NFTA_CMP_DATA
                "cmp"
            }
            Self::Accept => {
                let mut verdict = Vec::new();
                push_number(&mut verdict, NFTA_VERDICT_CODE, NF_ACCEPT);
                let mut inner = Vec::new();
                push_nest(&mut inner, NFTA_DATA_VERDICT, &verdict);
                return immediate(VERDICT, &inner);
            }
            Self::Forward(device) => {
                // a device's number is read as the processor has it
                let load = immediate(REGISTER, &value(&device.to_ne_bytes()));
                push_number(&mut data, 1, REGISTER); // NFTA_FWD_SREG_DEV
                return [load, element("fwd", &data)].concat();
            }
        };
        element(name, &data)
    }
}

fn immediate(register: u32, inner: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    push_number(&mut data, 1, register); // NFTA_IMMEDIATE_DREG
    push_nest(&mut data, 2, inner); // NFTA_IMMEDIATE_DATA
    element("immediate", &data)
}

fn value(bytes: &[u8]) -> Vec<u8> {
    let mut inner = Vec::new();
    attribute::push(&mut inner, NFTA_DATA_VALUE, bytes);
    inner
}

fn element(name: &str, data: &[u8]) -> Vec<u8> {
    let mut inner = Vec::new();
    push_text(&mut inner, NFTA_EXPR_NAME, name);
    push_nest(&mut inner, NFTA_EXPR_DATA, data);
    let mut element = Vec::new();
    push_nest(&mut element, NFTA_LIST_ELEM, &inner);
    element
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Byte for byte what libnftnl sends for `accept`; the rest is read back by `nft` where
    /// there is a kernel (tests/netns).
    #[test]
    fn a_verdict_is_nested_four_deep() {
        let expected: &[&[u8]] = &[
            &[44 + 4, 0, 1, 0x80],
            &[14, 0, 1, 0],
            b"immediate\0\0\0",
            &[28, 0, 2, 0x80],
            &[8, 0, 1, 0, 0, 0, 0, 0],
            &[16, 0, 2, 0x80],
            &[12, 0, 2, 0x80],
            &[8, 0, 1, 0, 0, 0, 0, 1],
        ];
        assert_eq!(Expression::Accept.encode(), expected.concat());
    }

    #[test]
    fn numbers_are_in_network_order_and_devices_in_the_processors() {
        let encoded = Expression::Forward(0x0102).encode();
        let has = |bytes: &[u8]| encoded.windows(bytes.len()).any(|window| window == bytes);
        assert!(has(&0x0102_u32.to_ne_bytes()), "{encoded:?}");
        assert!(has(&[8, 0, 1, 0, 0, 0, 0, 1]), "the register: {encoded:?}");
    }
}
