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
        let widest = rows.iter().map(|row| row.what.len()).max().unwrap_or(0);
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

/// The column of the status.
const STATUS: usize = 10;
/// With less room than this, lines are left to the terminal to break.
const NARROWEST: usize = 20;

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
        let head = format!("{}{}", painted(status, self.status, screen), " ".repeat(STATUS - status.len()));
        let by_whom = if self.needs_root { " (as root)" } else { "" };
        let fix = self.fix.map(|fix| format!("fix{by_whom}: {fix}"));
        let parts = [Some(self.evidence.as_str()), fix.as_deref()].into_iter().flatten();
        let margin = STATUS + widest + 2;
        let room = screen.columns.map(usize::from).and_then(|columns| columns.checked_sub(margin));
        let told = match room.filter(|room| *room >= NARROWEST) {
            Some(room) => {
                let lines: Vec<_> = parts.flat_map(|part| wrapped(part, room)).collect();
                lines.join(&format!("\n{:margin$}", ""))
            }
            None => parts.collect::<Vec<_>>().join("; "),
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "{head}{:widest$}  {told}", self.what);
    }
}

/// Breaks a line between words; a longer word is a line of its own.
fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::check::{Check, Scope, Scopes};

    /// A host as it was found.
    fn recorded() -> Vec<Check> {
        let masked = "/proc/acpi is masked: operation not permitted";
        vec![
            Check::fine("ipc namespace", "made").of_kind("namespaces"),
            Check::fine("uts namespace", "made").of_kind("namespaces"),
            Check::fine("time namespace", "made").of_kind("namespaces"),
            Check::lacking("proc", "PROC-MASKED", masked, Some("unmask it")).stopping(Scopes::ALL),
            Check::lacking("cgroup", "CG-NODELEG", "nothing is delegated", Some("ask for it"))
                .serving(Scope::Limits | Scope::Podman)
                .stopping(Scope::Limits),
        ]
    }

    fn report(scope: Option<Scope>) -> Report {
        let findings = recorded().iter().filter_map(|check| check.finding(scope)).collect();
        Report { findings, settings: None }
    }

    #[test]
    fn what_is_well_of_a_kind_is_a_line_and_each_lack_is_one() {
        assert_eq!(
            report(None).text(Screen::default()),
            "ok        namespaces  ipc, uts, time: made\n\
             blocked   proc        PROC-MASKED: /proc/acpi is masked: operation not permitted; fix (as root): unmask it\n\
             degraded  cgroup      CG-NODELEG: nothing is delegated; fix: ask for it\n\
             \n\
             blocked: 1 blocked, 1 degraded, 3 ok\n"
        );
    }

    #[test]
    fn on_a_terminal_lines_are_broken_between_words_and_the_fix_begins_one() {
        let text = report(None).text(Screen { columns: Some(50), colour: false });
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[1..5],
            [
                "blocked   proc        PROC-MASKED: /proc/acpi is",
                "                      masked: operation not",
                "                      permitted",
                "                      fix (as root): unmask it",
            ]
        );
        // Where there is hardly any room, the terminal breaks them.
        assert_eq!(
            report(None).text(Screen { columns: Some(30), colour: false }),
            report(None).text(Screen::default())
        );
        let coloured = report(None).text(Screen { columns: Some(200), colour: true });
        assert!(coloured.contains("\x1b[1;31mblocked\x1b[0m   proc   "), "{coloured}");
    }

    #[test]
    fn for_whom_it_is_decides_what_counts_and_how_much() {
        let status = |scope| {
            let report = report(Some(scope));
            let cgroup = report.findings.iter().find(|finding| finding.what == "cgroup");
            cgroup.map(|finding| finding.status)
        };
        assert_eq!(status(Scope::Limits), Some(Status::Blocked));
        assert_eq!(status(Scope::Podman), Some(Status::Degraded));
        assert_eq!(status(Scope::Run), None);
    }

    #[test]
    fn the_exit_code_is_that_of_the_worst() {
        let of = |checks: &[Check]| {
            let findings = checks.iter().filter_map(|check| check.finding(None)).collect();
            Report { findings, settings: None }.status().exit_code()
        };
        let all = recorded();
        assert_eq!([of(&all[..3]), of(&all[4..]), of(&all), of(&[])], [0, 1, 2, 0]);
    }

    #[test]
    fn programs_get_every_finding_with_all_fields() {
        let document = report(Some(Scope::Limits)).json();
        assert_eq!(document["status"], "blocked");
        assert_eq!(document["findings"].as_array().unwrap().len(), 5);
        assert_eq!(
            document["findings"][0],
            json!({"what": "ipc namespace", "status": "ok", "code": null, "evidence": "made", "fix": null, "needs_root": false})
        );
        assert_eq!(document["findings"][3]["code"], "PROC-MASKED");
        assert_eq!(document["findings"][3]["needs_root"], true);
        assert!(document.get("outer").is_none());
    }
}
