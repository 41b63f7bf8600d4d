//! What is asked of criu and what it answers, with the numbers of its description (criu's `rpc.proto`).

use super::wire::{Malformed, Message, Value, fields};
use std::ffi::OsStr;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What becomes of the cgroups of the tasks (criu(8), `--manage-cgroups`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupMode {
    /// They are nobody's business: the tasks are where criu is.
    Ignore = 0,
    /// Those that are there are left as they are, others are made.
    Soft = 3,
    /// All get the properties that they had.
    Full = 4,
    /// All are made, and none may be there.
    Strict = 5,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request<'a> {
    Version,
    /// Which of these are to be had.
    Features(Features),
    Dump(&'a Options),
    /// Memory alone, and the tasks go on.
    PreDump(&'a Options),
    Restore(&'a Options),
    /// What was to be done at a moment that was told is done, or could not be.
    Noticed {
        success: bool,
    },
}

/// What depends on the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features {
    /// Which pages were written to since they were looked at last.
    pub mem_track: bool,
    /// Pages that are brought when they are needed.
    pub lazy_pages: bool,
}

/// criu's options, by its own names as far as they are its own. Descriptors are ours; only those that are inherited
/// are the worker's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    pub images: RawFd,
    pub work: Option<RawFd>,
    pub log_file: String,
    pub pid: i32,
    pub root: Option<PathBuf>,
    pub leave_running: bool,
    pub ext_unix_sk: bool,
    pub tcp_established: bool,
    pub tcp_skip_in_flight: bool,
    pub evasive_devices: bool,
    pub shell_job: bool,
    pub file_locks: bool,
    pub link_remap: bool,
    pub auto_dedup: bool,
    pub lazy_pages: bool,
    pub track_mem: bool,
    pub orphan_pts_master: bool,
    pub rst_sibling: bool,
    /// Go on without root.
    pub unprivileged: bool,
    /// Relative to the images.
    pub parent_img: Option<PathBuf>,
    pub page_server: Option<(String, u16)>,
    pub manage_cgroups: Option<CgroupMode>,
    /// What the path of the dumped cgroup becomes in each hierarchy: its controllers, of which v2 has none, and the path.
    pub cg_root: Vec<(String, String)>,
    pub freeze_cgroup: Option<PathBuf>,
    /// Where a mount from outside is, and the name that it goes by in the images; or that name, and where to find it.
    pub ext_mnt: Vec<(PathBuf, PathBuf)>,
    pub external: Vec<String>,
    pub inherit_fd: Vec<(String, RawFd)>,
    /// Namespaces to join: kind and path.
    pub join_ns: Vec<(&'static str, PathBuf)>,
    /// `CLONE_NEW*` bits.
    pub empty_ns: u32,
    pub status_fd: Option<RawFd>,
    pub config_file: Option<PathBuf>,
    pub lsm_profile: Option<String>,
    pub lsm_mount_context: Option<String>,
}

/// All that criu has to say: who reads its log has a reason to.
const LOG_LEVEL: u64 = 4;

impl Options {
    fn message(&self) -> Message {
        let mut out = Message::default();
        let path = |path: &Path| path.as_os_str().as_bytes().to_vec();
        out.signed(1, self.images.into());
        if self.pid != 0 {
            out.signed(2, self.pid.into());
        }
        for (field, flag) in [
            (3, self.leave_running),
            (4, self.ext_unix_sk),
            (5, self.tcp_established),
            (6, self.evasive_devices),
            (7, self.shell_job),
            (8, self.file_locks),
            // What it tells us of: without it there are no notifications at all.
            (12, true),
            (15, self.track_mem),
            (16, self.auto_dedup),
            (18, self.link_remap),
            (26, self.rst_sibling),
            (46, self.tcp_skip_in_flight),
            (48, self.lazy_pages),
            (50, self.orphan_pts_master),
            (67, self.unprivileged),
        ] {
            out.flag(field, flag);
        }
        out.number(9, LOG_LEVEL);
        let texts = [
            (10, Some(self.log_file.clone().into_bytes())),
            (13, self.root.as_deref().map(path)),
            (14, self.parent_img.as_deref().map(path)),
            (44, self.freeze_cgroup.as_deref().map(path)),
            (51, self.config_file.as_deref().map(path)),
            (53, self.lsm_profile.clone().map(String::into_bytes)),
            (63, self.lsm_mount_context.clone().map(String::into_bytes)),
        ];
        for (field, text) in texts {
            text.into_iter().for_each(|text| out.bytes(field, &text));
        }
        self.work.into_iter().for_each(|fd| out.signed(17, fd.into()));
        self.status_fd.into_iter().for_each(|fd| out.signed(49, fd.into()));
        if let Some((address, port)) = &self.page_server {
            let mut server = Message::default();
            server.bytes(1, address.as_bytes());
            server.number(2, (*port).into());
            out.message(11, &server);
        }
        for (key, value) in &self.ext_mnt {
            out.message(23, &pair(&path(key), &path(value)));
        }
        for (controllers, root) in &self.cg_root {
            out.message(25, &pair(controllers.as_bytes(), root.as_bytes()));
        }
        for (key, fd) in &self.inherit_fd {
            let mut message = Message::default();
            message.bytes(1, key.as_bytes());
            message.signed(2, (*fd).into());
            out.message(27, &message);
        }
        if let Some(mode) = self.manage_cgroups {
            // Older ones know only that there is a mode.
            out.flag(24, mode != CgroupMode::Ignore);
            out.number(34, mode as u64);
        }
        self.external.iter().for_each(|what| out.bytes(37, what.as_bytes()));
        out.number(38, self.empty_ns.into());
        for (kind, file) in &self.join_ns {
            out.message(39, &pair(kind.as_bytes(), &path(file)));
        }
        out
    }
}

fn pair(first: &[u8], second: &[u8]) -> Message {
    let mut message = Message::default();
    message.bytes(1, first);
    message.bytes(2, second);
    message
}

const DUMP: u64 = 1;
const RESTORE: u64 = 2;
const NOTIFY: u64 = 6;
const FEATURE_CHECK: u64 = 9;
const VERSION: u64 = 10;
const SINGLE_PRE_DUMP: u64 = 13;

impl Request<'_> {
    /// As it is sent.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Message::default();
        let kind = match self {
            Request::Version => VERSION,
            Request::Features(_) => FEATURE_CHECK,
            Request::Dump(_) => DUMP,
            Request::PreDump(_) => SINGLE_PRE_DUMP,
            Request::Restore(_) => RESTORE,
            Request::Noticed { .. } => NOTIFY,
        };
        out.number(1, kind);
        match self {
            // The worker stays for another one.
            Request::Version => out.flag(4, true),
            Request::Features(wanted) => {
                out.flag(4, true);
                let mut features = Message::default();
                features.flag(1, wanted.mem_track);
                features.flag(2, wanted.lazy_pages);
                out.message(5, &features);
            }
            Request::Dump(options) | Request::PreDump(options) | Request::Restore(options) => {
                out.message(2, &options.message());
            }
            Request::Noticed { success } => out.number(3, u64::from(*success)),
        }
        out.as_bytes().to_vec()
    }
}

/// What criu says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// It is the word for a moment, and there is more to come.
    pub notify: Option<Notify>,
    pub success: bool,
    /// The pid of what was restored.
    pub restored: Option<i32>,
    pub version: Option<(u32, u32)>,
    pub features: Features,
    /// An errno, if it knows one.
    pub errno: i32,
    /// Its first error, in recent versions.
    pub message: String,
}

/// The word for a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notify {
    pub moment: String,
    /// The first task, where that is new.
    pub pid: Option<i32>,
}

impl Answer {
    /// Reads it.
    ///
    /// # Errors
    /// What is none.
    pub fn decode(bytes: &[u8]) -> Result<Answer, Malformed> {
        let mut answer = Answer::default();
        let mut notifies = false;
        for (field, value) in fields(bytes)? {
            match (field, value) {
                (1, Value::Number(kind)) => notifies = kind == NOTIFY,
                (2, Value::Number(success)) => answer.success = success != 0,
                (4, Value::Bytes(restored)) => answer.restored = number(restored, 1)?.map(|pid| pid as i32),
                (5, Value::Bytes(notify)) => {
                    let mut read =
                        Notify { pid: number(notify, 2)?.map(|pid| pid as i32), ..Notify::default() };
                    for (field, value) in fields(notify)? {
                        if let (1, Value::Bytes(moment)) = (field, value) {
                            read.moment = text(moment);
                        }
                    }
                    answer.notify = Some(read);
                }
                (7, Value::Number(errno)) => answer.errno = errno as i32,
                (8, Value::Bytes(features)) => {
                    let has = |field| Ok(number(features, field)?.is_some_and(|value| value != 0));
                    answer.features = Features { mem_track: has(1)?, lazy_pages: has(2)? };
                }
                (9, Value::Bytes(message)) => answer.message = text(message),
                (10, Value::Bytes(version)) => {
                    let part = |field| Ok(number(version, field)?.unwrap_or(0) as u32);
                    answer.version = Some((part(1)?, part(2)?));
                }
                _ => {}
            }
        }
        if notifies {
            answer.notify.get_or_insert_default();
        } else {
            answer.notify = None;
        }
        Ok(answer)
    }
}

/// A number within a message.
fn number(message: &[u8], wanted: u32) -> Result<Option<u64>, Malformed> {
    let found = fields(message)?.into_iter().rev().find_map(|(field, value)| match value {
        Value::Number(number) if field == wanted => Some(number),
        _ => None,
    });
    Ok(found)
}

fn text(bytes: &[u8]) -> String {
    OsStr::from_bytes(bytes).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_says_what_is_asked_for_and_nothing_else() {
        let options = Options {
            images: 5,
            log_file: "dump.log".into(),
            pid: 42,
            leave_running: true,
            page_server: Some(("127.0.0.1".into(), 27)),
            ext_mnt: vec![("/data".into(), "/data".into())],
            manage_cgroups: Some(CgroupMode::Soft),
            empty_ns: 0x4000_0000,
            ..Options::default()
        };
        let request = Request::Dump(&options).encode();
        let outer = fields(&request).unwrap();
        assert_eq!(outer[0], (1, Value::Number(DUMP)));
        let (2, Value::Bytes(inner)) = outer[1] else { panic!("{outer:?}") };
        let inner = fields(inner).unwrap();
        let numbers: Vec<_> = inner.iter().map(|(field, _)| *field).collect();
        assert_eq!(numbers, [1, 2, 3, 12, 9, 10, 11, 23, 24, 34, 38]);
        assert!(inner.contains(&(2, Value::Number(42))) && inner.contains(&(34, Value::Number(3))));
        assert!(inner.contains(&(23, Value::Bytes(b"\x0a\x05/data\x12\x05/data"))));
    }

    #[test]
    fn the_word_for_a_moment_has_its_pid() {
        let answer = Answer::decode(b"\x08\x06\x10\x01\x2a\x10\x0a\x0cpost-restore\x10\x2a").unwrap();
        assert_eq!(answer.notify, Some(Notify { moment: "post-restore".into(), pid: Some(42) }));
    }

    #[test]
    fn an_answer_has_what_was_asked_for_or_why_not() {
        let version = Answer::decode(b"\x08\x0a\x10\x01\x52\x04\x08\x04\x10\x01").unwrap();
        assert_eq!((version.success, version.version, version.notify), (true, Some((4, 1)), None));
        let restored = Answer::decode(b"\x08\x02\x10\x01\x22\x02\x08\x07").unwrap();
        assert_eq!((restored.success, restored.restored), (true, Some(7)));
        let failed = Answer::decode(b"\x08\x01\x10\x00\x38\x01\x4a\x03bad").unwrap();
        assert_eq!((failed.success, failed.errno, failed.message.as_str()), (false, 1, "bad"));
    }
}
