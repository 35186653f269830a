//! Changes to a message's head: checked as a whole, then applied in order.

use crate::http::head::{Fields, RequestHead};

/// One change of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldEdit {
    Set(String, Vec<u8>),
    Append(String, Vec<u8>),
    Remove(String),
}

/// One change of the request line.
#[derive(Clone, Debug, PartialEq)]
pub enum TargetEdit {
    PathAndQuery(String),
    Authority(String),
    Method(String),
}

/// Why a list of changes was refused, none of it applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadEdit {}

pub fn apply_fields(_fields: &mut Fields, _edits: &[FieldEdit]) -> Result<(), BadEdit> {
    Ok(())
}

pub fn apply_target(_head: &mut RequestHead, _edits: &[TargetEdit]) -> Result<(), BadEdit> {
    Ok(())
}
