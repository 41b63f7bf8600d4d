//! The AppArmor profile for a program that makes user namespaces.
//!
//! Ubuntu, from 23.10 on, lets only programs that have a profile use them as a plain user. This one allows that and
//! confines nothing.

use std::path::Path;

/// The profile of this name for the program at this path, which has no symbolic links in it.
pub fn profile(name: &str, program: &Path) -> String {
    let program = literally(&program.to_string_lossy());
    format!("abi <abi/4.0>,\nprofile {name} \"{program}\" flags=(unconfined) {{\n  userns,\n}}\n")
}

/// In a pattern of AppArmor's (apparmor.d(5), "Globbing"), these would stand for something else.
fn literally(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for c in path.chars() {
        if "*?[]{}^\"\\".contains(c) {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_the_program_and_allows_user_namespaces() {
        let text = profile("bryo", Path::new("/opt/moss and fern/bryo"));
        assert!(
            text.contains("profile bryo \"/opt/moss and fern/bryo\" flags=(unconfined) {\n  userns,\n}"),
            "{text}"
        );
    }

    #[test]
    fn what_would_stand_for_something_else_in_a_pattern_stands_for_itself() {
        let text = profile("bryo", Path::new("/opt/{a,b}/*/bryo\"[1]"));
        assert!(text.contains(r#""/opt/\{a,b\}/\*/bryo\"\[1\]""#), "{text}");
    }

    /// scripts/lib.sh has it for patterns, which match what tests build.
    #[test]
    fn the_scripts_have_the_same_text() {
        let script = include_str!("../../scripts/lib.sh");
        let text = profile("$1", Path::new("$2"));
        let lines: Vec<_> = text.lines().map(|line| line.replace('"', "\\\"")).collect();
        let [abi, head, rule, end] = &lines[..] else { panic!("{text}") };
        let wanted = format!("'{abi}' \"{head}\" '{rule}' '{end}'");
        assert!(script.contains(&wanted), "{wanted}");
    }
}
