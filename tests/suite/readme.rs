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

#[test]
fn the_doctor_looks_at_what_the_readme_shows() {
    bryo_only!("runc has no doctor");
    let lab = Lab::new();
    let ran = lab.call(["doctor", "--for", "run"]).done();
    // Whatever this host lacks, it is looked at.
    let names = |text: &str| -> Vec<String> {
        text.lines().filter_map(|line| Some(line.get(10..28)?.trim().to_string())).collect()
    };
    let looked_at = names(&ran.stdout);
    for line in block("$ bryo doctor").iter().skip(1) {
        let name = line.get(10..28).unwrap().trim();
        assert!(looked_at.iter().any(|looked| looked == name), "{name}: {}", ran.stdout);
    }
}

#[test]
fn the_words_of_degrade_are_those_of_the_readme() {
    bryo_only!("runc refuses without a choice");
    let lab = Lab::new();
    let shown = README.lines().skip_while(|line| !line.starts_with("| `--degrade=`")).skip(2);
    let shown: Vec<_> =
        shown.map_while(|line| line.strip_prefix("| `")?.split_once('`')).map(|(word, _)| word).collect();
    assert!(!shown.is_empty());
    let refused = lab.call(["--degrade", "moss", "create", "web"]).done().exits(1).stderr;
    let (_, known) = refused.rsplit_once("none, ").unwrap();
    let (known, _) = known.rsplit_once(", with").unwrap();
    let mut known: Vec<_> = known.split(", ").collect();
    let mut shown = shown;
    known.sort_unstable();
    shown.sort_unstable();
    assert_eq!(shown, known, "{refused}");
}

#[test]
fn a_code_of_the_readme_is_explained() {
    bryo_only!("runc has no codes");
    let lab = Lab::new();
    let ran = lab.bare_call(["help", "codes", "ID-RANGE"]).done().ok();
    assert!(ran.stdout.starts_with("ID-RANGE") && ran.stdout.contains("fix: "), "{ran:?}");
}

/// The ids are those of another machine.
#[test]
fn explain_shows_what_the_readme_shows() {
    bryo_only!("runc does not explain");
    plain_user_only!("all ids are root's");
    let lab = Lab::new();
    let bundle = lab.bundle().subids();
    bundle.save();
    let ran = lab.call(["explain", "-b"]).args([&bundle.dir]).done().ok();
    let shown = block("$ bryo explain");
    let real: Vec<_> = ran.stdout.lines().skip_while(|line| *line != "ids").take(shown.len() - 1).collect();
    let words = |lines: &[&str]| {
        lines.iter().map(|line| line.replace(|c: char| c.is_ascii_digit(), "")).collect::<Vec<_>>()
    };
    let real: Vec<_> = real.into_iter().map(str::trim).collect();
    assert_eq!(words(&shown[1..]), words(&real), "{}", ran.stdout);
}
