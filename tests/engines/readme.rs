//! What the README shows of engines is what happens, down to what is printed.

use crate::lab::{Place, Program, not_here, runtime, runtime_name, scripts};

const README: &str = include_str!("../../README.md");

/// The lines of the indented blocks below a heading.
fn shown(heading: &str) -> Vec<&'static str> {
    let section = README.lines().skip_while(|line| *line != heading).skip(1);
    let section = section.take_while(|line| !line.starts_with("## "));
    section.filter_map(|line| line.strip_prefix("    ")).collect()
}

/// Commands, which follow a dollar sign, each with what it prints.
fn session(heading: &str) -> Vec<(&'static str, Vec<&'static str>)> {
    let mut session: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in shown(heading) {
        match (line.strip_prefix("$ "), session.last_mut()) {
            (Some(command), _) => session.push((command, Vec::new())),
            (None, Some((_, output))) => output.push(line),
            (None, None) => panic!("output of no command: {line}"),
        }
    }
    session
}

mod rootless {
    use super::*;

    /// alice has the ids that the first user of a machine gets, and so has the guest's.
    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn the_session_with_podman_is_a_real_one() {
        if runtime_name() != "bryo" {
            return not_here("the commands are spelled bryo");
        }
        let home = Place::new("readme", "HOME=$DIR podman rm --all --force --time 0").dir;
        // A fresh clone is where she is, and bryo is in her search path.
        std::os::unix::fs::symlink(scripts(), home.join("scripts")).unwrap();
        let bin = runtime().parent().unwrap().display();
        let session = session("## With an engine");
        assert!(session.len() > 4, "{session:?}");
        for (command, printed) in session {
            let ran = Program::new("bash")
                .words("-c")
                .word(&format!("PATH={bin}:$PATH; {command}"))
                .env("HOME", &home)
                .dir(&home)
                .run()
                .ok();
            let said = format!("{}{}", ran.stdout, ran.stderr).replace(home.to_str().unwrap(), "/home/alice");
            assert_eq!(said.lines().collect::<Vec<_>>(), printed, "{command}");
        }
    }
}
