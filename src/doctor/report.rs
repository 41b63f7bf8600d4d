//! What doctor prints: for people, and as JSON.
//!
//! A line a finding: how it is, what was looked at, and what was seen, with the code and the way out where something is
//! missing. On a terminal lines are wrapped between words, and the way out begins a line of its own; elsewhere a line is a
//! line, for grep.

use super::check::{Finding, Status};
use super::outer::Settings;
use serde_json::{Value, json};
use std::fmt::Write;

/// Everything that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub findings: Vec<Finding>,
    /// What to start an outer container with, where that was asked for.
    pub settings: Option<Settings>,
}

/// Where it is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Screen {
    /// The width of the terminal, where it is one.
    pub columns: Option<u16>,
    pub colour: bool,
}

impl Report {
    /// The worst of all.
    pub fn status(&self) -> Status {
        self.findings.iter().map(|finding| finding.status).max().unwrap_or(Status::Ok)
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let mut document = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "status": self.status(),
            "findings": self.findings,
        });
        if let Some(settings) = &self.settings {
            document["outer"] = json!(settings);
        }
        document
    }

    /// For people.
    pub fn text(&self, screen: Screen) -> String {
        let mut text = String::new();
        let rows = merged(&self.findings);
        let widest = rows.iter().map(|row| row.what.len()).max().unwrap_or(0).min(WIDEST);
        for row in &rows {
            row.write(&mut text, widest, screen);
        }
        text.push('\n');
        text.push_str(&self.summary(screen));
        if let Some(settings) = &self.settings {
            for (engine, words) in [("Docker", &settings.docker), ("Podman", &settings.podman)] {
                let _ = write!(text, "\n{engine}:\n    {words}\n");
            }
            text.push_str("\nKubernetes:\n");
            for line in settings.kubernetes.lines() {
                let _ = writeln!(text, "    {line}");
            }
        }
        text
    }

    fn summary(&self, screen: Screen) -> String {
        let count = |status| self.findings.iter().filter(|finding| finding.status == status).count();
        let status = self.status();
        let word = painted(status.name(), status, screen);
        let (blocked, degraded) = (count(Status::Blocked), count(Status::Degraded));
        format!("{word}: {blocked} blocked, {degraded} degraded, {} ok\n", count(Status::Ok))
    }
}

/// The column of what was looked at.
const WIDEST: usize = 24;
/// The column of the status.
const STATUS: usize = 10;

/// A line to be.
struct Row<'a> {
    status: Status,
    what: &'a str,
    evidence: String,
    fix: Option<&'a str>,
    needs_root: bool,
}

/// What is well of a kind and comes one after the other is one row: `namespaces  mount, ipc, uts: made`.
fn merged(findings: &[Finding]) -> Vec<Row<'_>> {
    let alike = |a: &Finding, b: &Finding| {
        a.status == Status::Ok
            && b.status == Status::Ok
            && a.kind.is_some()
            && a.kind == b.kind
            && a.evidence == b.evidence
    };
    findings.chunk_by(alike).filter_map(Row::of).collect()
}

impl<'a> Row<'a> {
    fn of(alike: &'a [Finding]) -> Option<Row<'a>> {
        let first = alike.first()?;
        let row = |what, evidence| Row {
            status: first.status,
            what,
            evidence,
            fix: first.fix.as_deref(),
            needs_root: first.needs_root,
        };
        Some(match (&first.kind, &first.code) {
            (Some(kind), _) if alike.len() > 1 => {
                let names: Vec<_> = alike.iter().map(|finding| member(&finding.what, kind)).collect();
                row(kind, format!("{}: {}", names.join(", "), first.evidence))
            }
            (_, Some(code)) => row(&first.what, format!("{code}: {}", first.evidence)),
            (_, None) => row(&first.what, first.evidence.clone()),
        })
    }
}

/// Of the namespaces, the ipc namespace is the one that is called ipc.
fn member<'a>(what: &'a str, kind: &str) -> &'a str {
    match what.rsplit_once(' ') {
        Some((name, one)) if kind.strip_suffix('s') == Some(one) => name,
        _ => what,
    }
}

impl Row<'_> {
    fn write(&self, text: &mut String, widest: usize, screen: Screen) {
        let status = self.status.name();
        let indent = STATUS + widest + 2;
        let head = format!("{}{}", painted(status, self.status, screen), " ".repeat(STATUS - status.len()));
        let _ = write!(text, "{head}{:widest$}  ", self.what);
        let fix =
            self.fix.map(|fix| format!("fix{}: {fix}", if self.needs_root { " (as root)" } else { "" }));
        let Some(columns) = screen.columns.map(usize::from).filter(|columns| *columns >= indent + 20) else {
            let fix = fix.map(|fix| format!("; {fix}")).unwrap_or_default();
            let _ = writeln!(text, "{}{fix}", self.evidence);
            return;
        };
        let mut begin = indent.max(STATUS + self.what.len() + 2);
        for paragraph in [Some(self.evidence.as_str()), fix.as_deref()].into_iter().flatten() {
            if begin == 0 {
                let _ = write!(text, "{}", " ".repeat(indent));
                begin = indent;
            }
            for (n, line) in
                wrapped(paragraph, columns - indent, (columns).saturating_sub(begin)).iter().enumerate()
            {
                if n > 0 {
                    let _ = write!(text, "{}", " ".repeat(indent));
                }
                let _ = writeln!(text, "{line}");
            }
            begin = 0;
        }
    }
}

/// Breaks a line between words. The first may have less room.
fn wrapped(text: &str, width: usize, first: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    let mut room = first;
    for word in text.split(' ') {
        let line = lines.last_mut().map(std::mem::take).unwrap_or_default();
        let length = line.chars().count() + word.chars().count() + usize::from(!line.is_empty());
        if line.is_empty() && (length <= room || lines.len() > 1) {
            set_last(&mut lines, word.to_string());
        } else if length <= room {
            set_last(&mut lines, format!("{line} {word}"));
        } else {
            set_last(&mut lines, line);
            lines.push(word.to_string());
            room = width;
        }
    }
    lines
}

fn set_last(lines: &mut [String], line: String) {
    if let Some(last) = lines.last_mut() {
        *last = line;
    }
}

fn painted(word: &str, status: Status, screen: Screen) -> String {
    // SGR of ECMA-48: bold and green, yellow, red.
    let colour = match status {
        Status::Ok => "32",
        Status::Degraded => "1;33",
        Status::Blocked => "1;31",
    };
    if screen.colour { format!("\x1b[{colour}m{word}\x1b[0m") } else { word.to_string() }
}
