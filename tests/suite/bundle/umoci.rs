//! What five layers come to is what umoci makes of them, applied one after the other as well as stacked.

use std::fmt::Write;
use std::fs;

use serde_json::json;

use super::image::Layout;
use super::{bundle, config};
use crate::lab::{Lab, bryo_only, plain_user_only};

/// A layer in the making, of entries that have more to them than those of other tests.
#[derive(Default)]
struct Layer(Vec<u8>);

/// An entry; what is not said is that of a file of root's.
struct Entry<'a> {
    name: &'a str,
    kind: u8,
    mode: u32,
    owner: (u64, u64),
    mtime: &'a str,
    target: &'a str,
    content: &'a [u8],
    attributes: &'a [(&'a str, &'a [u8])],
}

const FILE: Entry = Entry {
    name: "",
    kind: b'0',
    mode: 0o644,
    owner: (0, 0),
    mtime: "1600000000",
    target: "",
    content: b"",
    attributes: &[],
};
const DIR: Entry = Entry { kind: b'5', mode: 0o755, ..FILE };
const LINK: Entry = Entry { kind: b'2', mode: 0o777, ..FILE };
const HARD: Entry = Entry { kind: b'1', ..FILE };

impl Layer {
    fn add(mut self, entry: Entry) -> Layer {
        let (uid, gid) = (entry.owner.0.to_string(), entry.owner.1.to_string());
        let mut records = vec![
            ("path".to_string(), entry.name.as_bytes()),
            ("mtime".to_string(), entry.mtime.as_bytes()),
            ("uid".to_string(), uid.as_bytes()),
            ("gid".to_string(), gid.as_bytes()),
        ];
        if !entry.target.is_empty() {
            records.push(("linkpath".to_string(), entry.target.as_bytes()));
        }
        records.extend(entry.attributes.iter().map(|(name, value)| (format!("SCHILY.xattr.{name}"), *value)));
        let records: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        self.member(b'x', 0o644, &records);
        self.member(entry.kind, entry.mode, entry.content);
        self
    }

    /// A whiteout.
    fn without(self, name: &str) -> Layer {
        self.add(Entry { name, ..FILE })
    }

    fn member(&mut self, kind: u8, mode: u32, content: &[u8]) {
        let mut block = [0u8; 512];
        let mut put = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, "in the pax header");
        put(100, &format!("{mode:07o}"));
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{:011o}", content.len()));
        put(136, "00000000000");
        put(148, "        ");
        put(257, "ustar\x0000");
        put(329, "0000001");
        put(337, "0000003");
        block[156] = kind;
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend(block);
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    fn done(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    // The length counts its own digits.
    let length = (1..)
        .map(|digits| digits + rest.len())
        .find(|length| length.to_string().len() + rest.len() == *length);
    [length.unwrap().to_string().as_bytes(), &rest].concat()
}

/// CAP_NET_RAW, permitted and effective, as setcap writes it.
const CAPABILITY: (&str, &[u8]) = ("security.capability", b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0");

/// Five layers with something of everything. The third does not describe the directories that it has something in,
/// and goes through links of the first.
fn layers() -> Vec<Vec<u8>> {
    let dir = |name| Entry { name, ..DIR };
    let file = |name, content| Entry { name, content, ..FILE };
    let base = Layer::default()
        .add(Entry { name: "./", mtime: "1500000000.5", ..DIR })
        .add(dir("bin/"))
        .add(Entry { name: "bin/box", content: b"a program", mode: 0o755, ..FILE })
        .add(Entry { name: "bin/sh", target: "bin/box", ..HARD })
        .add(Entry { name: "bin/ping", mode: 0o755, attributes: &[CAPABILITY], ..FILE })
        .add(Entry { name: "bin/su", mode: 0o4755, owner: (33, 33), ..FILE })
        .add(dir("usr"))
        .add(dir("usr/lib"))
        .add(Entry { name: "lib", target: "usr/lib", ..LINK })
        .add(file("lib/through a link", b"1"))
        .add(Entry { name: "absolute", target: "/usr/../../lib", owner: (7, 8), ..LINK })
        .add(file("absolute/through both", b"1"))
        .add(dir("etc"))
        .add(file("etc/passwd", b"root"))
        .add(Entry { name: "etc/shadow", mode: 0o640, owner: (0, 42), ..FILE })
        .add(Entry { name: "mail", mode: 0o2775, owner: (0, 8), ..DIR })
        .add(file("mail/box", b"1"))
        .add(Entry { name: "tmp", mode: 0o1777, ..DIR })
        .add(dir("app"))
        .add(dir("app/deep"))
        .add(file("app/deep/gone", b"1"))
        .add(file("app/gone", b"1"))
        .add(dir("old"))
        .add(file("old/gone", b"1"))
        .add(dir("becomes a file"))
        .add(file("becomes a file/x", b"1"))
        .add(file("becomes a directory", b"1"))
        .add(Entry { name: "becomes a link", ..DIR })
        .add(Entry { name: "data", attributes: &[("user.one", b"1"), ("user.two", b"2")], ..DIR })
        .add(Entry {
            name: "data/file",
            attributes: &[("user.three", b"9 path=x\n"), ("user.four", b"\n\0=\xff")],
            ..FILE
        })
        .add(Entry { name: "pipe", kind: b'6', mode: 0o622, owner: (1, 2), ..FILE })
        .add(Entry { name: "odd \u{e9}\n\t name", mtime: "-1.25", ..FILE })
        .add(Entry { name: "future", mtime: "4300000000.123456789", ..FILE });
    let second = Layer::default()
        .add(dir("etc"))
        .without("etc/.wh.passwd")
        .without(".wh.old")
        .add(Entry { name: "old", mode: 0o700, ..DIR })
        .add(file("old/new", b"2"))
        .add(dir("app"))
        .without("app/.wh..wh..opq")
        .add(file("app/new", b"2"))
        .add(file("becomes a file", b"2"))
        .add(Entry { name: "becomes a directory", owner: (1000, 1000), ..DIR })
        .add(file("becomes a directory/x", b"2"))
        .add(Entry { name: "becomes a link", target: "old", ..LINK });
    let third = Layer::default()
        .add(file("tmp/implied", b"3"))
        .add(file("absolute/through links below", b"3"))
        .without("lib/.wh.through a link")
        .add(Entry { name: "bin/box", content: b"another program", mode: 0o755, ..FILE })
        .add(Entry { name: "bin/again", target: "bin/box", ..HARD })
        .add(dir("app"))
        .add(dir("app/deep"))
        .add(file("app/deep/came back", b"3"))
        .without(".wh.nothing")
        .without(".wh.mail");
    let fourth = Layer::default()
        // The other order: first what is brought, then what is hidden.
        .add(Entry { name: "app", mtime: "7", ..DIR })
        .add(file("app/only", b"4"))
        .without("app/.wh..wh..opq")
        .add(dir("old"))
        .add(file("old/newer", b"4"))
        .without(".wh.old")
        // Again, since umoci does not give the directory back its time.
        .add(dir("old"))
        .add(Entry { name: "mail", owner: (8, 8), ..DIR })
        .add(file("mail/box", b"4"));
    let fifth = Layer::default()
        .add(Entry { name: "data", mtime: "1600000005.000000001", ..DIR })
        .add(Entry { name: "etc", mtime: "1600000006", ..DIR })
        .add(Entry { name: "etc/shadow", mode: 0o600, owner: (65534, 65534), ..FILE })
        .add(Entry { name: "bin", mtime: "1600000007", ..DIR })
        .without("bin/.wh.su")
        .add(Entry { name: "./", mtime: "1500000001.25", ..DIR });
    [base, second, third, fourth, fifth].into_iter().map(Layer::done).collect()
}

/// What a tree is to whoever looks: names, kinds, modes, owners, sizes, times, targets, attributes, contents. As
/// root over all ids; `before` makes the tree visible.
fn look(lab: &Lab, before: &str, dir: &str) -> String {
    let script = format!(
        "{before} cd \"$0\"; find . -type d -printf '%p|%y|%m|%U:%G|%T@\\n' -o -printf '%p|%y|%m|%U:%G|%T@|%s|%l\\n' | \
         sort; getfattr -R -P -h -d -m - . | sort; find . -type f -exec sha256sum {{}} + | sort"
    );
    let seen = lab.bare_call(["unshare", "--", "bash", "-euc", &script, dir]).cwd(&lab.dir).done();
    seen.ok().stdout
}

fn assert_same(ours: &str, theirs: &str) {
    let only = |these: &str, those: &str, sign: &str| {
        these.lines().filter(|line| !those.lines().any(|other| other == *line)).fold(
            String::new(),
            |mut all, line| {
                writeln!(all, "{sign} {line}").unwrap();
                all
            },
        )
    };
    assert!(ours == theirs, "ours +, umoci's -:\n{}{}", only(ours, theirs, "+"), only(theirs, ours, "-"));
}

fn umoci(lab: &Lab, words: &[&str]) {
    lab.bare_call(["unshare", "--", "umoci", "unpack"]).args(words).cwd(&lab.dir).done().ok();
}

fn remove(lab: &Lab, names: &[&str]) {
    lab.bare_call(["unshare", "--", "rm", "-rf"]).args(names).cwd(&lab.dir).done().ok();
}

#[test]
fn five_layers_are_what_umoci_makes_of_them_flat_and_stacked() {
    bryo_only!("runc makes no bundles");
    let lab = Lab::new();
    let layout = Layout::with_image(&lab, "image", &layers(), json!({}));
    umoci(&lab, &["--image", "image:latest", "theirs"]);
    let theirs = look(&lab, "", "theirs/rootfs");
    // It is what it should be at all: what is gone, what came back, owners, attributes.
    for part in [
        "./old/newer|",
        "./app/only|",
        "./bin/sh|f|755|",
        "./etc/shadow|f|600|65534:65534|",
        "user.four=",
        "user.three=",
        "security.capability=",
        "./mail|d|755|8:8|",
        "./absolute|l|777|7:8|",
        "./usr/lib/through both|",
        "./usr/lib/through links below|",
        "./tmp|d|1777|",
        "|4300000000.1234567890|",
    ] {
        assert!(theirs.contains(part), "no {part} in {theirs}");
    }
    for gone in [
        "./etc/passwd",
        "./old/gone",
        "./old/new|",
        "./app/deep",
        "./usr/lib/through a link",
        "./bin/su",
        ".wh.",
        "./becomes a file/x",
    ] {
        assert!(!theirs.contains(gone), "{gone} in {theirs}");
    }

    bundle(&lab, &["--from", &layout.source(), "--flat", "flat"]).prints("");
    assert_same(&look(&lab, "", "flat/rootfs"), &theirs);

    bundle(&lab, &["--from", &layout.source(), "--store", "store", "layers"]).prints("");
    let config = config(&lab.dir.join("layers"));
    let list = config["annotations"]["io.bryo.rootfs.layers"].as_str().unwrap();
    let list: Vec<String> = serde_json::from_str(list).unwrap();
    assert_eq!(list.len(), 5);
    // overlayfs wants the highest first.
    let lower: Vec<String> =
        list.iter().rev().map(|dir| lab.dir.join("layers").join(dir).to_str().unwrap().to_string()).collect();
    fs::create_dir(lab.dir.join("merged")).unwrap();
    // By mount(2), since fsconfig(2) takes no word of more than 255 bytes.
    let mount = format!(
        "LIBMOUNT_FORCE_MOUNT2=always mount -t overlay -o ro,{}lowerdir={} none merged;",
        userxattr(),
        lower.join(":")
    );
    assert_same(&look(&lab, &mount, "merged"), &theirs);
    remove(&lab, &["theirs", "flat", "layers", "store", "merged"]);
}

/// Which marks overlayfs is to look for.
fn userxattr() -> &'static str {
    if nix::unistd::geteuid().is_root() { "" } else { "userxattr," }
}

#[test]
fn a_device_is_the_empty_file_that_umoci_puts_in_its_place() {
    bryo_only!("runc makes no bundles");
    plain_user_only!("root makes devices");
    let lab = Lab::new();
    let device = Entry { name: "null", kind: b'3', mode: 0o666, ..FILE };
    let block = Entry { name: "disk", kind: b'4', mode: 0o600, mtime: "1600000001.5", ..FILE };
    let base =
        Layer::default().add(Entry { name: "./", ..DIR }).add(Entry { name: "null", content: b"1", ..FILE });
    let upper = Layer::default().add(Entry { name: "./", ..DIR }).add(device).add(block);
    let layout = Layout::with_image(&lab, "image", &[base.done(), upper.done()], json!({}));
    umoci(&lab, &["--rootless", "--image", "image:latest", "theirs"]);
    let told = bundle(&lab, &["--from", &layout.source(), "--flat", "flat"]).prints("").stderr;
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.contains("IMG-DEVICE: empty files in their place, wanted 2 devices: "), "{told}");
    let theirs = look(&lab, "", "theirs/rootfs");
    assert!(theirs.contains("./null|f|666|"), "{theirs}");
    assert_same(&look(&lab, "", "flat/rootfs"), &theirs);
    remove(&lab, &["theirs", "flat"]);
}
