//! The XML elements of an EC2 response.

use std::fmt::Display;

use quick_xml::Writer;
use quick_xml::events::{BytesEnd, BytesStart, BytesText, Event};

/// A sequence of elements.
pub(super) struct Xml(Writer<Vec<u8>>);

impl Xml {
    pub(super) fn new() -> Self {
        Self(Writer::new(Vec::new()))
    }

    /// The response of most actions that only change something.
    pub(super) fn done() -> Self {
        let mut xml = Self::new();
        xml.leaf("return", true);
        xml
    }

    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(self.0.get_ref()).expect("tags and texts are UTF-8")
    }

    /// An element with text. Characters that XML 1.0 does not allow become U+FFFD.
    pub(super) fn leaf(&mut self, tag: &str, text: impl Display) {
        let is_wrong = |c: char| c.is_control() && !matches!(c, '\n' | '\t') || matches!(c, '\u{fffe}' | '\u{ffff}');
        let text = text.to_string().replace(is_wrong, "\u{fffd}");
        self.nest(tag, |xml| xml.write(Event::Text(BytesText::new(&text))));
    }

    /// An element with child elements.
    pub(super) fn nest(&mut self, tag: &str, inner: impl FnOnce(&mut Self)) {
        self.write(Event::Start(BytesStart::new(tag)));
        inner(self);
        self.write(Event::End(BytesEnd::new(tag)));
    }

    /// A set: `<tag><item>…</item>…</tag>`, present even when it is empty.
    pub(super) fn set<T>(&mut self, tag: &str, items: impl IntoIterator<Item = T>, each: impl Fn(&mut Self, T)) {
        self.nest(tag, |set| {
            for item in items {
                set.nest("item", |xml| each(xml, item));
            }
        });
    }

    fn write(&mut self, event: Event<'_>) {
        self.0.write_event(event).expect("memory takes every byte");
    }
}

/// The token of the next page, if there is one.
pub(super) fn next(xml: &mut Xml, token: Option<String>) {
    if let Some(token) = token {
        xml.leaf("nextToken", token);
    }
}
