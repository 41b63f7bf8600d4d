//! `doctor`: what this host lets the caller do, and what to do about the rest.

use super::print;
use crate::cli;
use crate::doctor::{self, Report, Screen, apparmor};
use crate::report::{Act, Failure};
use crate::sys::tty;
use std::io::IsTerminal;
use std::path::Path;

/// `bryo doctor`. `state` is what `--root` says.
pub fn doctor(flags: &cli::Doctor, state: Option<&Path>) -> Result<u8, Failure> {
    if flags.apparmor_profile {
        return profile();
    }
    let report = doctor::examine(flags.scope, state);
    let text = if flags.json { format!("{:#}\n", report.json()) } else { report.text(screen()) };
    match print(&text) {
        0 => Ok(exit_code(&report)),
        code => Ok(code),
    }
}

fn exit_code(report: &Report) -> u8 {
    report.status().exit_code()
}

/// The profile for the file that runs, wherever links lead to it.
fn profile() -> Result<u8, Failure> {
    let program = std::fs::read_link("/proc/self/exe").act(|| "cannot find bryo's own file")?;
    Ok(print(&apparmor::profile("bryo", &program)))
}

fn screen() -> Screen {
    let out = std::io::stdout();
    if !out.is_terminal() {
        return Screen::default();
    }
    // A terminal of no size is one whose size is not known.
    let columns = tty::size(&out).ok().map(|size| size.columns).filter(|columns| *columns > 0);
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    Screen { columns: Some(columns.unwrap_or(80)), colour: !dumb && !unwanted }
}
