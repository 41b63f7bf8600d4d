//! `state`: what is recorded of a container, and whether it lives.

use super::print;
use crate::report::Failure;
use crate::state::store::Store;
use crate::state::{Record, Status};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// What `state` and `list` print; the order of the fields is runc's.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct View<'a> {
    pub oci_version: &'a str,
    pub id: &'a str,
    pub pid: i32,
    pub status: Status,
    pub bundle: &'a Path,
    pub rootfs: &'a Path,
    pub created: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// bryo's own: what became of other means than were asked for.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub degraded: &'a [crate::plan::degrade::Degradation],
}

impl<'a> View<'a> {
    /// A container that has this status.
    pub fn new(record: &'a Record, status: Status) -> View<'a> {
        View {
            oci_version: &record.oci_version,
            id: &record.id,
            pid: if status == Status::Stopped { 0 } else { record.pid },
            status,
            bundle: &record.bundle,
            rootfs: &record.rootfs,
            created: &record.created,
            annotations: &record.annotations,
            owner: None,
            degraded: &record.degraded,
        }
    }
}

/// `bryo state`.
pub fn state(store: &Store, id: &str) -> Result<u8, Failure> {
    let (entry, record) = store.open("read state of", id)?;
    let text = serde_json::to_string_pretty(&View::new(&record, entry.status(&record)?))
        .map_err(|e| Failure::new(format!("cannot print state of container {id}"), e.to_string()))?;
    Ok(print(&format!("{text}\n")))
}
