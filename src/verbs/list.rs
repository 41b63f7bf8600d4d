//! `list`: all containers below the root directory.

use super::state::View;
use super::{print, warn};
use crate::host::idmap::user_name;
use crate::report::Failure;
use crate::state::store::Store;
use std::collections::BTreeMap;

/// `bryo list`. A directory that was `named` has to be there: a typing error is not an empty list.
pub fn list(store: &Store, named: bool, quiet: bool, json: bool) -> Result<u8, Failure> {
    if named {
        store.check_there()?;
    }
    let mut rows = Vec::new();
    for id in store.ids()? {
        let found = store.entry(&id).and_then(|entry| match entry {
            Some(entry) => Ok(entry.record()?.map(|record| (entry, record))),
            None => Ok(None),
        });
        match found {
            Ok(Some(row)) => rows.push(row),
            // Being made, or deleted meanwhile.
            Ok(None) => {}
            Err(failure) => warn(&failure.to_string()),
        }
    }
    if quiet {
        return Ok(print(
            &rows.iter().flat_map(|(_, record)| [record.id.as_str(), "\n"]).collect::<String>(),
        ));
    }
    let mut views = Vec::new();
    let mut names = BTreeMap::new();
    let name = |uid| user_name(uid).unwrap_or_else(|| format!("#{uid}"));
    for (entry, record) in &rows {
        let owner = names.entry(record.owner).or_insert_with_key(|uid| name(*uid));
        match View::new(entry, record) {
            Ok(view) => views.push(View { owner: Some(owner.clone()), ..view }),
            Err(failure) => warn(&failure.to_string()),
        }
    }
    if json {
        let text = serde_json::to_string(&views)
            .map_err(|e| Failure::new("cannot list containers", e.to_string()))?;
        return Ok(print(&format!("{text}\n")));
    }
    Ok(print(&table(&views)))
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
