//! `list`: all containers below the root directory.

use super::state::View;
use super::{print, warn};
use crate::host::idmap::user_name;
use crate::report::Failure;
use crate::state::store::Store;
use crate::state::{Record, Status};
use std::collections::BTreeMap;

/// `bryo list`. A directory that was `named` has to be there: a typing error is not an empty list.
pub fn list(store: &Store, named: bool, quiet: bool, json: bool) -> Result<u8, Failure> {
    if named {
        store.check_there()?;
    }
    let mut found = Vec::new();
    for id in store.ids()? {
        match look(store, &id, !quiet) {
            Ok(Some(container)) => found.push(container),
            // Being made, or deleted meanwhile.
            Ok(None) => {}
            Err(failure) => warn(&failure.to_string()),
        }
    }
    if quiet {
        return Ok(print(
            &found.iter().flat_map(|(record, _)| [record.id.as_str(), "\n"]).collect::<String>(),
        ));
    }
    let mut names = BTreeMap::new();
    let name = |uid| user_name(uid).unwrap_or_else(|| format!("#{uid}"));
    let mut views = Vec::new();
    for (record, status) in &found {
        let Some(status) = status else { continue };
        let owner = names.entry(record.owner).or_insert_with_key(|uid| name(*uid));
        views.push(View { owner: Some(owner.clone()), ..View::new(record, *status) });
    }
    if json {
        let text = serde_json::to_string(&views)
            .map_err(|e| Failure::new("cannot list containers", e.to_string()))?;
        return Ok(print(&format!("{text}\n")));
    }
    Ok(print(&table(&views)))
}

/// A container, with its status if that is asked for. Nothing of it is kept open: there may be more of them than
/// descriptors.
fn look(store: &Store, id: &str, asked: bool) -> Result<Option<(Record, Option<Status>)>, Failure> {
    let Some(entry) = store.entry(id)? else { return Ok(None) };
    let Some(record) = entry.record()? else { return Ok(None) };
    let status = asked.then(|| entry.status(&record)).transpose()?;
    Ok(Some((record, status)))
}

/// Columns as Go's tabwriter makes them for runc: at least 12 wide, 3 blanks between.
fn table(views: &[View<'_>]) -> String {
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(String::from)];
    rows.extend(views.iter().map(|v| {
        [
            v.id.to_string(),
            v.pid.to_string(),
            v.status.word().to_string(),
            v.bundle.display().to_string(),
            v.created.to_string(),
            v.owner.clone().unwrap_or_default(),
        ]
    }));
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count() + 3).max().unwrap_or(0).max(12);
    let widths: Vec<usize> = (0..5).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        for (cell, width) in row.iter().zip(&widths) {
            out.push_str(&format!("{cell:width$}"));
        }
        out.push_str(&row[5]);
        out.push('\n');
    }
    out
}
