//! XML for the query protocol and S3: a writer that escapes, and a reader of small trees.

use quick_xml::Reader;
use quick_xml::escape::{escape, resolve_predefined_entity};
use quick_xml::events::Event;
use serde_json::Value;

/// A document that is being written.
#[derive(Debug)]
pub(super) struct Xml(String);

impl Xml {
    pub(super) fn new() -> Self {
        Self("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".into())
    }

    /// `<name xmlns="namespace">...</name>` around what `inner` writes; no attribute where
    /// `namespace` is empty.
    pub(super) fn root(mut self, name: &str, namespace: &str, inner: impl FnOnce(&mut Self)) -> String {
        let attribute = match namespace {
            "" => String::new(),
            _ => format!(" xmlns=\"{}\"", escape(namespace)),
        };
        self.0.push_str(&format!("<{name}{attribute}>"));
        inner(&mut self);
        self.0 + &format!("</{name}>")
    }

    /// `<name>...</name>` around what `inner` writes.
    pub(super) fn element(&mut self, name: &str, inner: impl FnOnce(&mut Self)) {
        self.0.push_str(&format!("<{name}>"));
        inner(self);
        self.0.push_str(&format!("</{name}>"));
    }

    /// `<name>text</name>`.
    pub(super) fn text(&mut self, name: &str, text: impl AsRef<str>) {
        self.element(name, |xml| xml.content(text.as_ref()));
    }

    /// The text of the element that is open. A bare carriage return is escaped, because readers turn it into
    /// a line feed (XML 1.0, section 2.11).
    pub(super) fn content(&mut self, text: &str) {
        self.0.push_str(&escape(text).replace('\r', "&#13;"));
    }

    /// The same of a JSON value without members; nothing for null.
    pub(super) fn value(&mut self, value: &Value) {
        match value {
            Value::Null => {}
            Value::String(text) => self.content(text),
            other => self.content(&other.to_string()),
        }
    }
}

#[derive(Debug, Default, PartialEq)]
pub(super) struct Element {
    pub(super) name: String,
    pub(super) text: String,
    pub(super) children: Vec<Element>,
}

impl Element {
    /// The text of the first child of that name.
    pub(super) fn child(&self, name: &str) -> Option<&str> {
        self.children.iter().find(|child| child.name == name).map(|child| child.text.as_str())
    }
}

/// Reads a document; `None` where it is not well formed.
pub(super) fn read(text: &str) -> Option<Element> {
    let mut reader = Reader::from_str(text);
    let mut open = vec![Element::default()];
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) => {
                let name = start.local_name().as_ref().to_owned();
                open.push(Element { name, ..Element::default() });
            }
            Event::Empty(empty) => {
                let name = empty.local_name().as_ref().to_owned();
                open.last_mut()?.children.push(Element { name, ..Element::default() });
            }
            Event::End(_) => {
                let element = open.pop()?;
                open.last_mut()?.children.push(element);
            }
            Event::Text(text) => open.last_mut()?.text.push_str(&text.xml10_content()),
            Event::CData(data) => open.last_mut()?.text.push_str(&data.xml10_content()),
            Event::GeneralRef(entity) => match entity.resolve_char_ref().ok()? {
                Some(letter) => open.last_mut()?.text.push(letter),
                None => open.last_mut()?.text.push_str(resolve_predefined_entity(&entity)?),
            },
            Event::Eof => break,
            _ => {}
        }
    }
    let document = (open.len() == 1).then(|| open.pop()).flatten()?;
    document.children.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read_again() {
        let text = Xml::new().root("Delete", "http://s3.amazonaws.com/doc/2006-03-01/", |xml| {
            xml.element("Object", |xml| xml.text("Key", "a & <b> \"c\"\r\n 'd' é"));
            xml.text("Quiet", "true");
        });
        let document = read(&text).unwrap();
        assert_eq!(document.name, "Delete");
        assert_eq!(document.children[0].child("Key"), Some("a & <b> \"c\"\r\n 'd' é"));
        assert_eq!(document.child("Quiet"), Some("true"));
    }

    #[test]
    fn what_is_not_well_formed_is_not_read() {
        assert_eq!(read("<Delete><Object></Delete>"), None);
        assert_eq!(read("nothing"), None);
    }
}
