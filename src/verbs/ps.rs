//! `ps`: the processes of a container, by the host's pids.

use super::{kill, print};
use crate::host::idmap::find_program;
use crate::report::{Act, Failure, io_text, one_line};
use crate::state::store::Store;
use std::process::Command;

/// `bryo ps`.
pub fn ps(store: &Store, id: &str, json: bool, args: &[String]) -> Result<u8, Failure> {
    let (_, record) = store.open("list processes of", id)?;
    let act = || format!("cannot list processes of container {id}");
    // Of one that has stopped there are none, unless some are left in its cgroup.
    let pids = kill::pids(&record).act(act)?;
    if json {
        return Ok(print(&format!("{}\n", serde_json::json!(pids))));
    }
    // The host's ps, never the image's (CVE-2019-10152).
    let program = find_program("ps").ok_or_else(|| {
        Failure::new(act(), "exec: \"ps\": executable file not found in $PATH")
            .fix("install procps, or use --format json")
    })?;
    let args: &[String] = if args.is_empty() { &["-ef".to_string()] } else { args };
    let output = Command::new(program)
        .args(args)
        .output()
        .map_err(|e| Failure::new(act(), format!("ps: {}", io_text(&e))))?;
    if !output.status.success() {
        return Err(Failure::new(
            act(),
            format!("ps: {}", one_line(&String::from_utf8_lossy(&output.stderr))),
        ));
    }
    let text = filter(&String::from_utf8_lossy(&output.stdout), &pids).ok_or_else(|| {
        Failure::new(act(), "couldn't find PID field in ps output").fix("have ps print a PID column")
    })?;
    Ok(print(&text))
}

/// The header, and the rows whose PID column names one of the pids.
fn filter(table: &str, pids: &[i32]) -> Option<String> {
    let mut lines = table.lines();
    let header = lines.next()?;
    let column = header.split_whitespace().position(|word| word == "PID")?;
    let ours = |line: &&str| {
        line.split_whitespace()
            .nth(column)
            .and_then(|pid| pid.parse().ok())
            .is_some_and(|pid| pids.contains(&pid))
    };
    let mut out = format!("{header}\n");
    for line in lines.filter(ours) {
        out.push_str(line);
        out.push('\n');
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_chosen_by_the_pid_column_wherever_it_is() {
        let table = "UID PID CMD\nroot 1 init\nu 42 1\n";
        assert_eq!(filter(table, &[42]).unwrap(), "UID PID CMD\nu 42 1\n");
        assert_eq!(filter("CMD\n", &[1]), None);
        assert_eq!(filter("", &[1]), None);
    }
}
