//! Where a JSON object ends. JSON-RPC over a stream has no other delimiter.

/// Larger messages are refused: a node of a thousand ports makes half a mebibyte.
const LIMIT: usize = 16 << 20;

/// Cuts a byte stream into JSON objects, each byte looked at once.
#[derive(Debug, Default)]
pub(super) struct Framer {
    buffer: Vec<u8>,
    scanned: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Framer {
    /// Adds what was read.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole object, if there is one. The error says what came instead.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, String> {
        while let Some(&byte) = self.buffer.get(self.scanned) {
            self.scanned += 1;
            if self.depth == 0 {
                match byte {
                    b' ' | b'\t' | b'\r' | b'\n' => {}
                    b'{' => self.depth = 1,
                    _ => return Err(format!("it sent byte {byte:#04x} where `{{` was expected")),
                }
            } else if self.within(byte) {
                let rest = self.buffer.split_off(self.scanned);
                self.scanned = 0;
                return Ok(Some(std::mem::replace(&mut self.buffer, rest)));
            }
        }
        if self.buffer.len() > LIMIT {
            return Err(format!("it sent a message of more than {LIMIT} bytes"));
        }
        Ok(None)
    }

    /// Whether this byte ends the object.
    fn within(&mut self, byte: u8) -> bool {
        if self.escaped {
            self.escaped = false;
        } else if self.in_string {
            self.escaped = byte == b'\\';
            self.in_string = byte != b'"';
        } else {
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth -= 1,
                _ => {}
            }
        }
        self.depth == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(chunks: &[&str]) -> Vec<String> {
        let mut framer = Framer::default();
        let mut objects = Vec::new();
        for chunk in chunks {
            framer.push(chunk.as_bytes());
            while let Some(object) = framer.next().unwrap() {
                objects.push(String::from_utf8(object).unwrap().trim().to_owned());
            }
        }
        objects
    }

    #[test]
    fn objects_are_cut_wherever_the_reads_fall() {
        let text = r#"{"a":[1,{"b":"}\"]\\"}]} {}{"c":"{"}"#;
        let expected = [r#"{"a":[1,{"b":"}\"]\\"}]}"#, "{}", r#"{"c":"{"}"#];
        assert_eq!(cut(&[text]), expected);
        for at in 0..text.len() {
            let (head, tail) = text.split_at(at);
            assert_eq!(cut(&[head, tail]), expected, "cut at {at}");
        }
    }

    #[test]
    fn what_is_no_object_or_too_large_is_refused() {
        let mut framer = Framer::default();
        framer.push(b"HTTP/1.1 400");
        assert!(framer.next().unwrap_err().contains("0x48"));
        let mut framer = Framer::default();
        framer.push(b"{\"a\":\"");
        framer.push(&vec![b'x'; LIMIT]);
        assert!(framer.next().unwrap_err().contains("more than"));
    }
}
