//! As much YAML as netplan's files use: maps and lists in block and flow style, scalars with
//! and without quotes, comments. Anchors, tags, block scalars and keys with `?` are an error.
//!
//! A crate for YAML would be the only reason for one, and this is read, never written.

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Yaml {
    Scalar(String),
    List(Vec<Yaml>),
    Map(Vec<(String, Yaml)>),
}

impl Yaml {
    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&Yaml> {
        match self {
            Self::Map(pairs) => pairs.iter().find(|(own, _)| own == key).map(|(_, value)| value),
            Self::Scalar(_) | Self::List(_) => None,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        if let Self::Scalar(text) = self { Some(text) } else { None }
    }

    pub(super) fn pairs(&self) -> &[(String, Yaml)] {
        if let Self::Map(pairs) = self { pairs } else { &[] }
    }

    pub(super) fn items(&self) -> &[Yaml] {
        if let Self::List(items) = self { items } else { &[] }
    }

    /// Every scalar and key.
    pub(super) fn words(&self) -> Vec<&str> {
        match self {
            Self::Scalar(text) => vec![text],
            Self::List(items) => items.iter().flat_map(Self::words).collect(),
            Self::Map(pairs) => pairs
                .iter()
                .flat_map(|(key, value)| std::iter::once(key.as_str()).chain(value.words()))
                .collect(),
        }
    }
}

/// A line without comment: how deep, and what.
struct Line {
    number: usize,
    indent: usize,
    text: String,
}

/// Reads one document. The error says which line is not understood.
pub(super) fn parse(text: &str) -> Result<Yaml, String> {
    let mut lines: Vec<Line> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let text = without_comment(line).trim_end().to_owned();
        let content = text.trim_start();
        if content.is_empty() || content == "---" || content == "..." {
            continue;
        }
        let indent = text.len() - content.len();
        lines.push(Line { number: at + 1, indent, text: content.to_owned() });
    }
    let mut reader = Reader { lines, at: 0 };
    let Some(first) = reader.lines.first() else { return Ok(Yaml::Map(Vec::new())) };
    let value = reader.block(first.indent)?;
    match reader.peek() {
        None => Ok(value),
        Some(line) => Err(bad(line)),
    }
}

/// `#` starts one at the beginning or behind a blank, outside of quotes.
fn without_comment(line: &str) -> &str {
    let (mut quote, mut before) = (None, ' ');
    for (at, letter) in line.char_indices() {
        match (letter, quote) {
            ('#', None) if before.is_whitespace() => return line.get(..at).unwrap_or(line),
            ('"' | '\'', None) => quote = Some(letter),
            (letter, Some(open)) if letter == open => quote = None,
            _ => {}
        }
        before = letter;
    }
    line
}

fn bad(line: &Line) -> String {
    format!("line {} is not understood: {}", line.number, line.text)
}

struct Reader {
    lines: Vec<Line>,
    at: usize,
}

impl Reader {
    fn peek(&self) -> Option<&Line> {
        self.lines.get(self.at)
    }

    /// A map, a list or a scalar whose lines are indented by exactly this much.
    fn block(&mut self, indent: usize) -> Result<Yaml, String> {
        let Some(line) = self.peek() else { return Ok(Yaml::Scalar(String::new())) };
        if is_item(&line.text) {
            return self.list(indent);
        }
        if key_of(&line.text).is_none() {
            let value = scalar_or_flow(line)?;
            self.at += 1;
            return Ok(value);
        }
        self.map(indent)
    }

    fn list(&mut self, indent: usize) -> Result<Yaml, String> {
        let mut items = Vec::new();
        while let Some(line) = self.lines.get_mut(self.at) {
            if line.indent != indent || !is_item(&line.text) {
                break;
            }
            let rest = line.text.get(1..).unwrap_or_default();
            let content = rest.trim_start().to_owned();
            if content.is_empty() {
                self.at += 1;
                items.push(self.nested(indent)?);
                continue;
            }
            // what stands behind the dash is a block of its own, as deep as it stands
            line.indent += 1 + rest.len() - content.len();
            line.text = content;
            let deeper = line.indent;
            items.push(self.block(deeper)?);
        }
        Ok(Yaml::List(items))
    }

    fn map(&mut self, indent: usize) -> Result<Yaml, String> {
        let mut pairs = Vec::new();
        while let Some(line) = self.peek() {
            if line.indent != indent || is_item(&line.text) {
                break;
            }
            let Some((key, rest)) = key_of(&line.text) else { return Err(bad(line)) };
            let rest = Line { number: line.number, indent, text: rest.to_owned() };
            self.at += 1;
            let value = if rest.text.is_empty() {
                // a list may stand as deep as its key
                match self.peek() {
                    Some(next) if next.indent == indent && is_item(&next.text) => {
                        self.list(indent)?
                    }
                    _ => self.nested(indent)?,
                }
            } else {
                scalar_or_flow(&rest)?
            };
            pairs.push((key, value));
        }
        Ok(Yaml::Map(pairs))
    }

    /// The block that is deeper than this; nothing where none is.
    fn nested(&mut self, indent: usize) -> Result<Yaml, String> {
        match self.peek() {
            Some(line) if line.indent > indent => {
                let deeper = line.indent;
                self.block(deeper)
            }
            _ => Ok(Yaml::Scalar(String::new())),
        }
    }
}

fn is_item(text: &str) -> bool {
    text == "-" || text.starts_with("- ")
}

/// The key of `key: value`, and the value.
fn key_of(text: &str) -> Option<(String, &str)> {
    if text.starts_with(['{', '[']) {
        return None;
    }
    let (key, rest) = if let Some(open @ ('"' | '\'')) = text.chars().next() {
        let end = text.get(1..)?.find(open)? + 1;
        (text.get(1..end)?, text.get(end + 1..)?.strip_prefix(':')?)
    } else {
        let at = text.find(": ").or_else(|| text.strip_suffix(':').map(str::len))?;
        (text.get(..at)?, text.get(at + 1..)?)
    };
    (rest.is_empty() || rest.starts_with(' ')).then(|| (key.trim().to_owned(), rest.trim()))
}

fn scalar_or_flow(line: &Line) -> Result<Yaml, String> {
    let mut rest = line.text.as_str();
    let value = flow(&mut rest, &[]).ok_or_else(|| bad(line))?;
    if rest.trim().is_empty() { Ok(value) } else { Err(bad(line)) }
}

/// One value in flow style; a plain scalar ends before any of `ends`.
fn flow(rest: &mut &str, ends: &[char]) -> Option<Yaml> {
    *rest = rest.trim_start();
    match rest.chars().next() {
        Some('[') => {
            let mut items = Vec::new();
            *rest = rest.get(1..)?;
            loop {
                *rest = rest.trim_start();
                if let Some(behind) = rest.strip_prefix(']') {
                    *rest = behind;
                    return Some(Yaml::List(items));
                }
                items.push(flow(rest, &[',', ']'])?);
                separator(rest, ']')?;
            }
        }
        Some('{') => {
            let mut pairs = Vec::new();
            *rest = rest.get(1..)?;
            loop {
                *rest = rest.trim_start();
                if let Some(behind) = rest.strip_prefix('}') {
                    *rest = behind;
                    return Some(Yaml::Map(pairs));
                }
                let (key, value) = key_of(rest)?;
                *rest = value;
                pairs.push((key, flow(rest, &[',', '}'])?));
                separator(rest, '}')?;
            }
        }
        Some(open @ ('"' | '\'')) => {
            let end = rest.get(1..)?.find(open)? + 1;
            let text = rest.get(1..end)?.to_owned();
            *rest = rest.get(end + 1..)?;
            Some(Yaml::Scalar(text))
        }
        // anchors, aliases, tags, block scalars
        Some('&' | '*' | '!' | '|' | '>' | '?' | '%' | '@' | '`') => None,
        _ => {
            let end = rest.find(ends).unwrap_or(rest.len());
            let text = rest.get(..end)?.trim().to_owned();
            *rest = rest.get(end..)?;
            Some(Yaml::Scalar(text))
        }
    }
}

fn separator(rest: &mut &str, close: char) -> Option<()> {
    *rest = rest.trim_start();
    if let Some(behind) = rest.strip_prefix(',') {
        *rest = behind;
        return Some(());
    }
    rest.starts_with(close).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_netplan() {
        let text = "# by hand\nnetwork:\n  version: 2\n  ethernets:\n    eth1: # the uplink\n      dhcp4: no\n      \
            addresses:\n      - 10.0.2.15/24\n      - \"fd77::15/64\":\n          label: x\n      \
            routes:\n        - to: default\n          via: 10.0.2.2\n        - {to: \"::/0\", via: 'fd77::1'}\n      \
            nameservers: {addresses: [10.0.0.53, 'fd00::53'], search: []}\n";
        let yaml = parse(text).unwrap();
        let eth1 = yaml.get("network").unwrap().get("ethernets").unwrap().get("eth1").unwrap();
        assert_eq!(eth1.get("dhcp4").unwrap().text(), Some("no"));
        let addresses = eth1.get("addresses").unwrap().items();
        assert_eq!(addresses[0].text(), Some("10.0.2.15/24"));
        assert_eq!(addresses[1].pairs()[0].0, "fd77::15/64");
        let routes = eth1.get("routes").unwrap().items();
        assert_eq!(routes[0].get("via").unwrap().text(), Some("10.0.2.2"));
        assert_eq!(routes[1].get("to").unwrap().text(), Some("::/0"));
        let servers = eth1.get("nameservers").unwrap().get("addresses").unwrap();
        assert_eq!(servers.words(), ["10.0.0.53", "fd00::53"]);
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for text in
            ["a: &x 1\n", "a: |\n  b\n", "a: [1, 2\n", "a: 1\n   b: 2\n", "just words\nmore\n"]
        {
            let error = parse(text).unwrap_err();
            assert!(error.contains("is not understood"), "{text}: {error}");
        }
        assert_eq!(parse("# nothing\n").unwrap(), Yaml::Map(Vec::new()));
    }
}
