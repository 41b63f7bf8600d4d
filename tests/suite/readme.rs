//! What the README shows is what happens.

use crate::lab::{Lab, PATIENCE, bryo_only, eventually, plain_user_only};
use serde_json::json;

const README: &str = include_str!("../../README.md");

/// The indented block of the README that begins with the line that has `first` in it.
pub fn block(first: &str) -> Vec<&'static str> {
    let lines = README.lines().skip_while(|line| !(line.starts_with("    ") && line.contains(first)));
    let block: Vec<_> = lines.take_while(|line| line.starts_with("    ")).map(str::trim).collect();
    assert!(!block.is_empty(), "the README has no block with {first:?}");
    block
}

#[test]
fn the_everyday_commands_of_the_readme_work_in_their_order() {
    bryo_only!("the commands are spelled bryo");
    let lab = Lab::new();
    let bundle = lab.bundle().waits();
    bundle.save();
    let mut seen = 0;
    for line in block("bryo create web") {
        // What is behind the number sign is for the reader.
        let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
        let (program, args) = words.split_first().expect("a command");
        assert_eq!(*program, "bryo", "{line}");
        if args[0] == "delete" {
            let stopped = || lab.call(["state", "web"]).done().stdout.contains("stopped");
            assert!(eventually(PATIENCE, stopped), "TERM did not end it");
        }
        lab.call(args).cwd(&bundle.dir).done().ok();
        seen += 1;
    }
    assert_eq!(seen, 7, "create, start, list, exec, ps, kill, delete");
}

#[test]
fn the_files_of_subordinate_ids_are_seen_to_as_the_readme_shows() {
    bryo_only!("the commands are spelled bryo");
    plain_user_only!("all ids are root's");
    let lab = Lab::new();
    let srv = lab.dir.join("rootfs/srv");
    std::fs::create_dir_all(srv.join("closed")).unwrap();
    lab.call(["unshare", "chown", "-R", "5:5"]).args([&srv]).done().ok();
    let (mut shown, mut real) = (Vec::new(), Vec::new());
    for line in block("$ bryo unshare") {
        match line.strip_prefix("$ bryo ") {
            Some(args) => {
                let ran = lab.call(args.split_whitespace()).cwd(&lab.dir).done().ok();
                real.extend(ran.stdout.lines().map(ids_aside));
                let owner = std::fs::metadata(&srv).map(|meta| std::os::unix::fs::MetadataExt::uid(&meta));
                match args.split(' ').next() {
                    Some("remove-tree") => assert!(owner.is_err() && !lab.dir.join("rootfs").exists()),
                    _ => {
                        assert_eq!(owner.unwrap() == nix::unistd::geteuid().as_raw(), args.contains("chown"))
                    }
                }
            }
            None => shown.push(ids_aside(line)),
        }
    }
    assert_eq!(shown, real);
    assert_eq!(shown.len(), 2);
}

/// A line of a map without the id outside, which is the reader's own.
fn ids_aside(line: &str) -> Vec<String> {
    let mut fields: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
    fields.remove(1);
    fields
}

#[test]
fn what_the_readme_shows_of_an_ephemeral_container_is_what_happens() {
    bryo_only!("runc has no layers");
    let lab = Lab::new();
    let bundle = lab.bundle().own_rootfs().args(["sh"]);
    bundle.save();
    let shown = block("bryo run --ephemeral web");
    let (input, output) = shown[1..].split_at(shown.iter().position(|line| *line == "END").unwrap() - 1);
    assert_eq!(shown[0], "$ bryo run --ephemeral web <<'END'");
    let call = lab.call(["run", "--ephemeral", "web"]).cwd(&bundle.dir).stdin(input.join("\n"));
    call.done().prints(&format!("{}\n", output[1..].join("\n")));
    assert!(bundle.rootfs().join("usr").exists());
}

#[test]
fn the_refusal_that_the_readme_shows_is_the_real_one() {
    bryo_only!("the words are bryo's");
    plain_user_only!("all ids are root's");
    let lab = Lab::new();
    let map = json!([{ "containerID": 0, "hostID": 0, "size": 65536 }]);
    let bundle = lab.bundle().with(|c| {
        c["linux"]["uidMappings"] = map.clone();
        c["linux"]["gidMappings"] = map.clone();
    });
    bundle.save();
    let told = lab.call(["run", "web"]).cwd(&bundle.dir).done().stderr;
    let shown = block("bryo: cannot map uids").join(" ");
    // The user and the range are the reader's own.
    let parts: Vec<&str> = shown.split("alice has 100000+65536").collect();
    assert_eq!(parts.len(), 2, "{shown}");
    assert!(
        told.starts_with(parts[0]) && told.trim_end().ends_with(parts[1]),
        "README: {shown}\nreal:   {told}"
    );
}
