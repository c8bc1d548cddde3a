//! Edits of the real templates, each of which breaks one rule.

use crate::templates;

/// One edit inside one resource.
#[derive(Debug, Clone, Copy)]
pub struct Mutation {
    /// The template, or the file that it includes.
    pub file: &'static str,
    /// The logical id in that file, `A.B` for a key below; empty for the whole file.
    pub resource: &'static str,
    /// What is changed.
    pub edit: Edit,
    /// The resource that the finding names, if it is not the edited one.
    pub names: Option<&'static str>,
    /// A second rule that the edit breaks: one that compares copies, of which the edit changes one.
    pub also: Option<&'static str>,
    /// The stage on which the edit breaks the rule.
    pub stage: &'static str,
}

/// What an edit does.
#[derive(Debug, Clone, Copy)]
pub enum Edit {
    /// Removes a line and the lines that are indented below it.
    Drop(&'static str),
    /// Replaces a text once.
    Swap(&'static str, &'static str),
    /// Removes the resource.
    Remove,
    /// Adds lines at the end of the resource, or a whole resource at the end of the section.
    Add(&'static str),
}

impl Mutation {
    /// Removes a line and the lines that are indented below it.
    pub(super) const fn drop(file: &'static str, resource: &'static str, line: &'static str) -> Self {
        Self::new(file, resource, Edit::Drop(line))
    }

    /// Replaces `old` by `new`.
    pub(super) const fn swap(
        file: &'static str,
        resource: &'static str,
        old: &'static str,
        new: &'static str,
    ) -> Self {
        Self::new(file, resource, Edit::Swap(old, new))
    }

    /// Removes a whole resource.
    pub(super) const fn remove(file: &'static str, resource: &'static str) -> Self {
        Self::new(file, resource, Edit::Remove)
    }

    /// Adds lines to a resource, or a resource.
    pub(super) const fn add(file: &'static str, resource: &'static str, lines: &'static str) -> Self {
        Self::new(file, resource, Edit::Add(lines))
    }

    const fn new(file: &'static str, resource: &'static str, edit: Edit) -> Self {
        Self { file, resource, edit, names: None, also: None, stage: "dev" }
    }

    /// The finding names this.
    pub(super) const fn naming(mut self, resource: &'static str) -> Self {
        self.names = Some(resource);
        self
    }

    /// The edit breaks this rule too.
    pub(super) const fn also(mut self, rule: &'static str) -> Self {
        self.also = Some(rule);
        self
    }

    /// Only prod has the rule.
    pub(super) const fn on_prod(mut self) -> Self {
        self.stage = "prod";
        self
    }

    /// The file's text after the edit; unchanged if there is nothing to edit.
    pub fn apply(&self, text: &str) -> String {
        match self.edit {
            Edit::Drop(line) => {
                templates::in_block(text, self.resource, |block| templates::without_line(block, line))
            }
            Edit::Swap(old, new) => {
                templates::in_block(text, self.resource, |block| block.replacen(old, new, 1))
            }
            Edit::Remove => templates::without_resource(text, self.resource),
            Edit::Add(lines) => {
                templates::in_block(text, self.resource, |block| format!("{}\n{lines}\n", block.trim_end()))
            }
        }
    }
}
