//! Writing XML.

use std::fmt::Display;

/// Elements, one after the other.
#[derive(Debug, Default)]
pub(super) struct Xml(String);

impl Xml {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// An element with text.
    pub(super) fn leaf(&mut self, tag: &str, text: impl Display) {
        self.open(tag);
        for c in text.to_string().chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                // What XML 1.0 can't carry at all.
                c if c.is_control() && !matches!(c, '\n' | '\t') => self.0.push('\u{fffd}'),
                '\u{fffe}' | '\u{ffff}' => self.0.push('\u{fffd}'),
                c => self.0.push(c),
            }
        }
        self.close(tag);
    }

    /// An element with elements.
    pub(super) fn nest(&mut self, tag: &str, inner: impl FnOnce(&mut Self)) {
        self.open(tag);
        inner(self);
        self.close(tag);
    }

    /// A set: `<tag><item>…</item>…</tag>`, there even when it is empty.
    pub(super) fn set<T>(&mut self, tag: &str, items: impl IntoIterator<Item = T>, each: impl Fn(&mut Self, T)) {
        self.nest(tag, |set| {
            for item in items {
                set.nest("item", |xml| each(xml, item));
            }
        });
    }

    fn open(&mut self, tag: &str) {
        self.0.push('<');
        self.0.push_str(tag);
        self.0.push('>');
    }

    fn close(&mut self, tag: &str) {
        self.0.push_str("</");
        self.0.push_str(tag);
        self.0.push('>');
    }
}
