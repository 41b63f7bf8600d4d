//! What archives say, in all the formats that layers come in.

use super::*;

#[test]
fn files_directories_links_and_fifos_come_out_as_they_went_in() {
    let place = Place::new();
    let counts = place.flat(
        Tar::new()
            .directory("d/")
            .file("d/f", "hello")
            .link("d/hard", "d/f")
            .symlink("d/soft", "../nowhere")
            .add(Header::new(b'6', "d/fifo").mode(0o620), b"")
            .add(Header::new(b'0', "empty"), b""),
    );
    assert_eq!((counts.entries, counts.bytes), (6, 5));
    let list = [
        ("d", "d"),
        ("d/f", "f hello"),
        ("d/hard", "f hello"),
        ("d/soft", "l ../nowhere"),
        ("d/fifo", "?"),
        ("empty", "f "),
    ];
    assert_eq!(place.list(), listed(&list));
    let inode = |name| fs::metadata(place.path(name)).unwrap().ino();
    assert_eq!(inode("d/f"), inode("d/hard"));
    assert!(fs::metadata(place.path("d/fifo")).unwrap().file_type().is_fifo());
    assert_eq!(place.mode("d/fifo"), 0o620);
}

#[test]
fn modes_hold_with_their_set_id_bits_whatever_the_umask_is() {
    let place = Place::new();
    let modes = [0o4755, 0o2711, 0o1777, 0o777, 0o666, 0o644, 0o7000, 0o444, 0o200];
    let mut tar = Tar::new();
    for mode in modes {
        tar = tar.add(Header::new(b'0', format!("f{mode:o}")).mode(mode).size(1), b"x");
        tar = tar.add(Header::new(b'5', format!("d{mode:o}")).mode(mode), b"");
    }
    // The type of the file, which some archivers add.
    tar = tar.add(Header::new(b'0', "typed").mode(0o100_751), b"");
    place.flat(tar);
    for mode in modes {
        assert_eq!(place.mode(&format!("f{mode:o}")), mode, "file {mode:o}");
        assert_eq!(place.mode(&format!("d{mode:o}")), mode, "directory {mode:o}");
    }
    assert_eq!(place.mode("typed"), 0o751);
}

#[test]
fn times_hold_to_the_nanosecond_before_1970_and_after_2038() {
    let place = Place::new();
    let negative = [&[0xff; 8][..], &(-2_000_000_000i32).to_be_bytes()].concat();
    place.flat(
        Tar::new()
            .add(Header::new(b'5', "dir").mtime(77), b"")
            .file("dir/inside", "x")
            .add(Header::new(b'0', "old").put(136, negative), b"")
            .pax(&[("mtime", b"-1.25")])
            .file("fraction", "")
            .pax(&[("mtime", b"4300000000.123456789"), ("atime", b"5.5")])
            .file("future", "")
            .add(Header::new(b'2', "soft").target("x").mtime(99), b"")
            .file("late", "x"),
    );
    assert_eq!(place.mtime("dir"), (77, 0));
    assert_eq!(place.mtime("dir/inside"), (1, 0));
    assert_eq!(place.mtime("old"), (-2_000_000_000, 0));
    assert_eq!(place.mtime("fraction"), (-2, 750_000_000));
    assert_eq!(place.mtime("future"), (4_300_000_000, 123_456_789));
    assert_eq!(fs::metadata(place.path("future")).unwrap().atime(), 5);
    assert_eq!(place.mtime("soft"), (99, 0));
    // No entry describes the root.
    assert_eq!((place.mtime(""), place.mode("")), ((0, 0), 0o755));
}

#[test]
fn the_root_gets_what_its_entry_says() {
    let place = Place::new();
    place.flat(
        Tar::new().add(Header::new(b'5', "./").mode(0o1750).mtime(123), b"").file("a", "").file("b/c", ""),
    );
    assert_eq!((place.mtime(""), place.mode("")), ((123, 0), 0o1750));
    assert_eq!((place.mtime("b"), place.mode("b")), ((0, 0), 0o755));
}

#[test]
fn long_names_are_read_from_all_three_places() {
    let place = Place::new();
    let prefix = "p".repeat(100);
    let long = format!("{}/{}", "l".repeat(200), "n".repeat(255));
    let target = "t/".repeat(400);
    place.flat(
        Tar::new()
            .add(Header::new(b'0', "posix").put(345, &prefix), b"")
            .long(b'L', long.as_bytes())
            .file("cut", "gnu")
            .long(b'K', target.as_bytes())
            .long(b'L', b"soft")
            .symlink("cut", "cut")
            .pax(&[("path", format!("x/{long}").as_bytes()), ("linkpath", b"unused")])
            .file("cut", "pax"),
    );
    assert!(place.exists(&format!("{prefix}/posix")));
    assert_eq!(place.read(&long), "gnu");
    assert_eq!(place.read(&format!("x/{long}")), "pax");
    assert_eq!(fs::read_link(place.path("soft")).unwrap().as_os_str(), target.as_str());
    assert!(!place.exists("cut"));
}

#[test]
fn names_are_bytes() {
    let place = Place::new();
    place.flat(
        Tar::new()
            .add(Header::new(b'0', b"l\xe4tin\n\x01"), b"")
            .pax(&[("hdrcharset", b"BINARY"), ("path", b"p\xff/x")])
            .file("", ""),
    );
    for name in [&b"l\xe4tin\n\x01"[..], b"p\xff/x"] {
        assert!(place.root.join(std::ffi::OsStr::from_bytes(name)).exists(), "{}", name.escape_ascii());
    }
}

#[test]
fn numbers_are_octal_or_base_256() {
    use super::super::fields::number;
    assert_eq!(number(b"0000644\0"), Some(0o644));
    assert_eq!(number(b"   644 \0"), Some(0o644));
    assert_eq!(number(b"77777777"), Some(0o7777_7777));
    assert_eq!(number(b"\0\0\0\0"), Some(0));
    assert_eq!(number(b"        "), Some(0));
    assert_eq!(number(b"\x80\0\0\0\0\x20\0\0"), Some(0x20_0000));
    assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xfe"), Some(-2));
    assert_eq!(number(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"), Some(i64::MAX));
    assert_eq!(number(b"\x80\0\0\0\x80\0\0\0\0\0\0\0"), None, "beyond 63 bits");
    assert_eq!(number(b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), None);
    assert_eq!(number(b"00008\0"), None);
    assert_eq!(number(b"-1\0"), None);
    assert_eq!(number(b"777777777777777777777777"), None);
    assert_eq!(number(b""), None);
}

#[test]
fn older_formats_are_read() {
    let place = Place::new();
    let v7 = |flag, name| Header::new(flag, name).mode(0o755).put(257, [0; 8]);
    let gnu = |flag, name| Header::new(flag, name).put(257, b"ustar  \0");
    let star = Header::new(b'0', "star").put(345, "in").put(476, b"00000000017\0").put(508, b"tar\0");
    place.flat(
        Tar::new()
            .add(v7(0, "v7/"), b"")
            .add(v7(0, "v7/file").size(2), b"v7")
            .add(v7(b'1', "v7/link").target("v7/file"), b"")
            // GNU's format has times where POSIX has the prefix.
            .add(gnu(b'0', "gnu").put(345, b"00000000017\0"), b"")
            .add(star, b""),
    );
    assert_eq!((place.read("v7/link"), place.mode("v7")), ("v7".into(), 0o755));
    assert!(place.exists("gnu") && place.exists("in/star"));
}

#[test]
fn headers_of_no_file_are_passed_over() {
    let place = Place::new();
    let comment = tar::record("comment", b"0123456789");
    let mtime = tar::record("path", b"everything");
    place.flat(
        Tar::new()
            .add(Header::new(b'g', "g").size(comment.len() as u64), &comment)
            .add(Header::new(b'g', "g").size(mtime.len() as u64), &mtime)
            .add(Header::new(b'V', "a volume"), b"")
            .file("f", "x")
            // A link has no data, whatever its size says.
            .add(Header::new(b'1', "hard").target("f").size(4096), b"")
            .add(Header::new(b'5', "dir").size(4096), b"")
            .file("g", "y"),
    );
    let list = [("f", "f x"), ("hard", "f x"), ("dir", "d"), ("g", "f y")];
    assert_eq!(place.list(), listed(&list));
}

#[test]
fn files_with_holes_are_read_in_all_four_ways() {
    let place = Place::new();
    let old = |name: &str| {
        let header = Header::new(b'S', name).put(257, b"ustar  \0").size(6);
        header.put(386, b"00000000002 00000000003\0").put(410, b"00000001000 00000000003\0")
    };
    let extended = old("oldlong").put(482, b"\x01").put(483, b"00000002000\0");
    let mut block = [0u8; 512];
    block[..24].copy_from_slice(b"00000001750 00000000001\0");
    let map = b"2\n2\n3\n512\n3\n";
    let mut newest = [0u8; 512 + 6];
    newest[..map.len()].copy_from_slice(map);
    newest[512..].copy_from_slice(b"abcdef");
    place.flat(
        Tar::new()
            .add(old("old").put(483, b"00000001750\0"), b"abcdef")
            .add(extended.size(7), &[&block[..], b"abcdefg"].concat())
            .pax(&[
                ("GNU.sparse.size", b"1000"),
                ("GNU.sparse.numblocks", b"2"),
                ("GNU.sparse.offset", b"2"),
                ("GNU.sparse.numbytes", b"3"),
                ("GNU.sparse.offset", b"512"),
                ("GNU.sparse.numbytes", b"3"),
            ])
            .file("pax00", "abcdef")
            .pax(&[
                ("GNU.sparse.name", b"pax01"),
                ("GNU.sparse.size", b"1000"),
                ("GNU.sparse.map", b"2,3,512,3"),
            ])
            .file("GNUSparseFile.0/pax01", "abcdef")
            .pax(&[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.name", b"pax10"),
                ("GNU.sparse.realsize", b"1000"),
            ])
            .add(Header::new(b'0', "GNUSparseFile.0/pax10").size(518), &newest)
            .file("after", "x"),
    );
    let mut wanted = vec![0u8; 1000];
    wanted[2..5].copy_from_slice(b"abc");
    wanted[512..515].copy_from_slice(b"def");
    for name in ["old", "pax00", "pax01", "pax10"] {
        assert_eq!(fs::read(place.path(name)).unwrap(), wanted, "{name}");
    }
    wanted.resize(1024, 0);
    wanted[1000] = b'g';
    assert_eq!(fs::read(place.path("oldlong")).unwrap(), wanted);
    assert_eq!(place.read("after"), "x");
}

#[test]
fn a_large_file_with_holes_takes_no_room() {
    let place = Place::new();
    let data = vec![7u8; 1 << 20];
    let list = format!("1099511627776,{}", data.len());
    let size = (1u64 << 40) + data.len() as u64;
    place.flat(
        Tar::new()
            .pax(&[("GNU.sparse.size", size.to_string().as_bytes()), ("GNU.sparse.map", list.as_bytes())])
            .add(Header::new(b'0', "large").size(data.len() as u64), &data),
    );
    let metadata = fs::metadata(place.path("large")).unwrap();
    assert_eq!(metadata.len(), size);
    assert!(metadata.blocks() * 512 < 2 << 20, "{} blocks", metadata.blocks());
}

#[test]
fn an_archive_may_lack_its_end_but_not_the_end_of_a_file() {
    let tar = Tar::new().file("a", "x").file("b", "y");
    for blocks in [0, 1, 2, 20] {
        let bytes = [tar.0.clone(), vec![0; blocks * 512]].concat();
        let place = Place::new();
        place.unpack(&bytes, Form::Flat).unwrap();
        assert_eq!(place.read("b"), "y", "{blocks} blocks of zeros");
    }
    let place = Place::new();
    assert_eq!(place.flat(Tar::new()), Counts::default());
    assert_eq!(place.unpack(b"", Form::Flat).unwrap(), Counts::default());
    for cut in [1, 511, 513, 1023] {
        let error = place.unpack(&tar.0[..cut], Form::Flat).unwrap_err().to_string();
        assert!(error.ends_with("it is cut short: unexpected end of file"), "{cut}: {error}");
    }
}

#[test]
fn damage_is_named_with_its_place() {
    let place = Place::new();
    let mut bytes = Tar::new().file("a", "x").file("b", "y").end();
    bytes[1024 + 3] ^= 1;
    let error = place.unpack(&bytes, Form::Flat).unwrap_err().to_string();
    assert_eq!(
        error,
        "cannot read the layer's archive at byte 1536: this is no header of a tar archive: invalid argument"
    );
    let hidden = [Tar::new().file("a", "x").0, vec![0; 512], Tar::new().file("b", "x").0].concat();
    let error = place.unpack(&hidden, Form::Flat).unwrap_err().to_string();
    assert!(error.contains("data follows the end mark"), "{error}");
    let unknown = Tar::new().add(Header::new(b'A', "acl"), b"");
    assert!(place.refusal(unknown).contains("of the type 'A', which layers do not have"));
    for (at, field) in [(100, "mode"), (108, "uid"), (116, "gid"), (124, "size"), (136, "time")] {
        let wrong = Tar::new().add(Header::new(b'0', "f").put(at, b"9"), b"");
        assert!(place.refusal(wrong).contains(&format!("a {field} is no number")), "{field}");
    }
    let negative = Tar::new().add(Header::new(b'0', "f").put(124, [0xff; 12]), b"");
    assert!(place.refusal(negative).contains("a size is -1: numerical result out of range"));
    let endless = Tar::new().add(Header::new(b'x', "pax").size(1 << 30), b"");
    assert!(place.refusal(endless).contains("an extended header has 1073741824 bytes: file too large"));
}

#[test]
fn what_the_reader_says_is_what_is_told() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the stream ends in its middle"))
        }
    }
    let place = Place::new();
    let root = File::open(&place.root).unwrap();
    let error =
        unpack(Broken, root.as_fd(), Form::Flat, &nothing(), &Ids::single(), &mut |_| {}).unwrap_err();
    assert_eq!(error.to_string(), "cannot read the layer's archive at byte 0: the stream ends in its middle");
}

#[test]
fn the_archive_is_read_to_its_end_and_progress_tells_how_far() {
    struct Bytewise<'a>(&'a [u8]);
    impl Read for Bytewise<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let part = self.0.len().min(buffer.len()).min(701);
            buffer[..part].copy_from_slice(&self.0[..part]);
            self.0 = &self.0[part..];
            Ok(part)
        }
    }
    let place = Place::new();
    let content = "0123456789abcdef".repeat(10_000);
    let mut bytes = Tar::new().file("f", &content).directory("d").end();
    bytes.extend([0; 9000]);
    let mut seen = Vec::new();
    let mut reader = Bytewise(&bytes);
    let root = File::open(&place.root).unwrap();
    unpack(&mut reader, root.as_fd(), Form::Flat, &nothing(), &Ids::single(), &mut |at| seen.push(at))
        .unwrap();
    assert!(reader.0.is_empty());
    assert!(seen.is_sorted() && seen.last() == Some(&(bytes.len() as u64)), "{:?}", seen.last());
    assert_eq!(place.read("f"), content);
}
