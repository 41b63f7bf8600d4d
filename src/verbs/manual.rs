//! `man` and `completion`: what the command line's one definition says, for man(1) and for shells.
//!
//! The pages have what clap knows of a verb, and what holds for all of them beside it: exit codes, environment and
//! files. They are made by the program itself, so that they are those of the program that is installed.

use super::print;
use crate::cli;
use crate::report::{Act, Failure};
use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use std::io::{self, Write};
use std::path::Path;

/// What a command exits with.
const STATUS: [(&str, &str); 4] = [
    ("0", "It is done; for run and exec in the foreground, the program's own exit code."),
    ("1", "It failed, and one line on standard error says why and what helps."),
    ("128+N", "run and exec in the foreground: the program was ended by signal N."),
    ("255", "exec itself failed."),
];

const ENVIRONMENT: [(&str, &str); 7] = [
    ("BRYO_DEGRADE", "What --degrade says, where that is not given."),
    ("BRYO_STORE", "What --store of bundle says, where that is not given."),
    ("XDG_RUNTIME_DIR", "Where the state of a user's containers is, below bryo."),
    ("XDG_DATA_HOME", "Where a user's store of layers is, below bryo; without it $HOME/.local/share."),
    ("PATH", "Where newuidmap, newgidmap, pasta, slirp4netns, fuse-overlayfs and criu are looked for."),
    ("NOTIFY_SOCKET", "The socket of a supervisor that is told when the container is ready (sd_notify(3))."),
    ("LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES", "Sockets to pass on to the container (sd_listen_fds(3))."),
];

const FILES: [(&str, &str); 4] = [
    ("config.json", "The configuration in the bundle's directory, as the OCI runtime specification has it."),
    (
        "/run/bryo, $XDG_RUNTIME_DIR/bryo, /run/user/UID/bryo, /tmp/bryo-UID",
        "The state of containers: root's, or the first that can be had of a user's.",
    ),
    ("/var/lib/bryo, $HOME/.local/share/bryo", "The store of layers: root's, and a user's."),
    ("/etc/subuid, /etc/subgid", "The ids that a user's containers may have (subuid(5), subgid(5))."),
];

const ELSEWHERE: &str = "newuidmap(1), subuid(5), user_namespaces(7), cgroups(7), pasta(1), slirp4netns(1), fuse-overlayfs(1), criu(8)";

/// `bryo man`: one page, or all of them into a directory.
///
/// # Errors
/// A verb that there is not; a directory that cannot be written.
pub fn man(verb: Option<&str>, directory: Option<&Path>) -> Result<u8, Failure> {
    let definition = cli::definition();
    if let Some(directory) = directory {
        return write_all(&definition, directory).map(|()| 0);
    }
    let found = match verb {
        Some(verb) => definition.find_subcommand(verb),
        None => Some(&definition),
    };
    let command = found.ok_or_else(|| {
        let verb = verb.unwrap_or_default();
        Failure::new(format!("cannot show the page of {verb}"), "there is no such command: invalid argument")
            .fix("see bryo --help")
    })?;
    Ok(print(&String::from_utf8_lossy(&page(command, &definition).act(|| "cannot make the page")?)))
}

/// `bryo completion`: a script for the shell of this name.
///
/// # Errors
/// A shell that there is no script for.
pub fn completion(shell: &str) -> Result<u8, Failure> {
    let shell: Shell = shell.parse().map_err(|_| {
        Failure::new(
            "cannot make a completion",
            format!("{shell:?} is no shell that is known: invalid argument"),
        )
        .fix("use bash, zsh or fish")
    })?;
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli::definition(), "bryo", &mut script);
    Ok(print(&String::from_utf8_lossy(&script)))
}

fn write_all(definition: &Command, directory: &Path) -> Result<(), Failure> {
    let verbs = definition.get_subcommands().filter(|verb| !verb.is_hide_set());
    for command in std::iter::once(definition).chain(verbs) {
        let path = directory.join(format!("{}.1", title(command, definition)));
        let text = page(command, definition).act(|| "cannot make the page")?;
        std::fs::write(&path, text).act(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn title(command: &Command, definition: &Command) -> String {
    match command.get_name() {
        name if name == definition.get_name() => name.to_string(),
        name => format!("{}-{name}", definition.get_name()),
    }
}

fn page(command: &Command, definition: &Command) -> io::Result<Vec<u8>> {
    let title = title(command, definition);
    // `bryo-run` is the page; `bryo run`, which is typed, is clap's "bin name".
    let named = command.clone().display_name(title.clone());
    let man =
        Man::new(named).title(title.to_uppercase()).section("1").date(cli::NAME_AND_VERSION).source("bryo");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.get_name() == definition.get_name() {
        verbs(definition, &mut text)?;
    }
    if command.get_after_help().is_some() {
        man.render_extra_section(&mut text)?;
    }
    terms("EXIT STATUS", &STATUS, &mut text)?;
    terms("ENVIRONMENT", &ENVIRONMENT, &mut text)?;
    terms("FILES", &FILES, &mut text)?;
    let others = if command.get_name() == definition.get_name() { String::new() } else { "bryo(1), ".into() };
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]).text([roman(format!("{others}{ELSEWHERE}"))]);
    text.write_all(roff.to_roff().as_bytes())?;
    Ok(text)
}

fn verbs(definition: &Command, out: &mut dyn Write) -> io::Result<()> {
    let about = |verb: &Command| verb.get_about().map(ToString::to_string).unwrap_or_default();
    let verbs: Vec<(String, String)> = definition
        .get_subcommands()
        .filter(|verb| !verb.is_hide_set())
        .map(|verb| (format!("bryo-{}(1)", verb.get_name()), about(verb)))
        .collect();
    let verbs: Vec<(&str, &str)> =
        verbs.iter().map(|(name, about)| (name.as_str(), about.as_str())).collect();
    terms("COMMANDS", &verbs, out)
}

/// A section of names with what they are.
fn terms(heading: &str, terms: &[(&str, &str)], out: &mut dyn Write) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", [heading]);
    for (name, meaning) in terms {
        roff.control("TP", []).text([bold(*name)]).text([roman(*meaning)]);
    }
    out.write_all(roff.to_roff().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: Option<&str>) -> String {
        let definition = cli::definition();
        let command = name.map_or(&definition, |name| definition.find_subcommand(name).unwrap());
        String::from_utf8(page(command, &definition).unwrap()).unwrap()
    }

    #[test]
    fn each_page_names_what_the_verb_takes() {
        for verb in cli::VERBS {
            let text = text(Some(verb));
            for heading in ["NAME", "SYNOPSIS", "\"EXIT STATUS\"", "ENVIRONMENT", "FILES", "\"SEE ALSO\""] {
                assert!(text.contains(&format!(".SH {heading}\n")), "{verb}: no {heading} in {text}");
            }
        }
        assert!(text(Some("exec")).contains("\\-\\-ignore\\-paused"));
    }

    #[test]
    fn the_first_page_names_every_verb() {
        let text = text(None);
        assert!(
            cli::VERBS.iter().all(|verb| text.contains(&format!("bryo\\-{}(1)", verb.replace('-', "\\-")))),
            "{text}"
        );
    }

    #[test]
    fn each_shell_is_told_every_verb() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut cli::definition(), "bryo", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(cli::VERBS.iter().all(|verb| script.contains(verb)), "{shell}");
        }
    }
}
