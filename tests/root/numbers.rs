//! Numbers of a fixed seed, and input that they damage.

/// Marsaglia's xorshift: the same numbers on every machine.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }
}

/// A few bytes or words changed, a part cut out, doubled or cut off.
pub fn mutated(whole: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(bytes.len());
        let length = numbers.below(32).min(bytes.len() - at);
        match numbers.below(8) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..at + length)),
            2 => {
                let part = bytes[at..at + length].to_vec();
                bytes.splice(at..at, part);
            }
            3 => bytes[at..at + length].fill(0xff),
            4 => bytes[at..at + length].fill(0),
            // headers are where the offsets and the sizes are
            5 => {
                let at = numbers.below(bytes.len().min(64));
                let value = numbers.next().to_le_bytes();
                let end = (at + 1 + numbers.below(8)).min(bytes.len());
                bytes[at..end].copy_from_slice(&value[..end - at]);
            }
            _ => {
                let bit = numbers.below(8);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << bit;
                }
            }
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}
