//! The command line: runc's flags and words, with the few that crun's callers add.
//!
//! Only what was typed is turned into values here; nothing is decided. The definitions of a verb are built
//! only when that verb is called.

use crate::codes;
use crate::criu::CgroupMode;
use crate::doctor::Scope;
use crate::plan::checkpoint;
use crate::plan::network::{self, Mode, Publish};
use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where errors are told beside stderr, and in which form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Log {
    pub file: Option<PathBuf>,
    pub json: bool,
}

/// The flags before the verb.
#[derive(Debug, Clone)]
pub struct Global {
    pub debug: bool,
    pub log: Log,
    pub root: Option<PathBuf>,
    pub systemd_cgroup: bool,
    pub cgroup_manager: Option<String>,
    /// The criu program.
    pub criu: Option<PathBuf>,
    /// `--degrade`, else $BRYO_DEGRADE.
    pub degrade: Option<String>,
}

/// The verb with its flags.
#[derive(Debug, Clone)]
pub enum Verb {
    Checkpoint(Box<Checkpoint>),
    Create(Create),
    Run(Run),
    Start {
        id: String,
    },
    State {
        id: String,
    },
    Kill {
        id: String,
        signal: String,
        all: bool,
    },
    Delete {
        id: String,
        force: bool,
    },
    List {
        quiet: bool,
        json: bool,
    },
    Ps {
        id: String,
        json: bool,
        args: Vec<String>,
    },
    Doctor(Doctor),
    Exec(Box<Exec>),
    Explain(Explain),
    Spec(Spec),
    Features,
    Pause {
        id: String,
    },
    Resume {
        id: String,
    },
    Bundle(Box<Bundle>),
    Completion {
        shell: String,
    },
    Man {
        verb: Option<String>,
        /// All pages into this directory.
        all: Option<PathBuf>,
    },
    Events {
        id: String,
        /// As it was typed: a Go duration.
        interval: String,
        stats: bool,
    },
    RemoveTree {
        paths: Vec<PathBuf>,
    },
    Unshare {
        /// Empty for a shell.
        command: Vec<OsString>,
    },
    Update(Box<Update>),
    Restore(Box<Restore>),
}

/// `create`.
#[derive(Debug, Clone, Default)]
pub struct Create {
    pub id: String,
    pub bundle: PathBuf,
    pub console_socket: Option<PathBuf>,
    pub pidfd_socket: Option<PathBuf>,
    pub pid_file: Option<PathBuf>,
    pub no_pivot: bool,
    pub no_new_keyring: bool,
    pub preserve_fds: u32,
    pub network: Option<Mode>,
    pub publish: Vec<Publish>,
    /// Changes to the root file system vanish.
    pub ephemeral: bool,
    /// Changes to the root file system are kept in this directory.
    pub overlay: Option<PathBuf>,
}

/// `run`.
#[derive(Debug, Clone)]
pub struct Run {
    pub create: Create,
    pub detach: bool,
    pub keep: bool,
    pub no_subreaper: bool,
}

/// `checkpoint`.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    pub id: String,
    pub image_path: Option<PathBuf>,
    pub work_path: Option<PathBuf>,
    /// Relative to the images.
    pub parent_path: Option<PathBuf>,
    pub leave_running: bool,
    pub tcp_skip_in_flight: bool,
    pub link_remap: bool,
    pub pre_dump: bool,
    pub page_server: Option<(String, u16)>,
    /// Below zero for none.
    pub status_fd: Option<i32>,
    pub criu: checkpoint::Flags,
}

/// `restore`.
#[derive(Debug, Clone)]
pub struct Restore {
    pub create: Create,
    pub image_path: Option<PathBuf>,
    pub work_path: Option<PathBuf>,
    pub detach: bool,
    pub no_subreaper: bool,
    pub lsm_profile: Option<String>,
    pub lsm_mount_context: Option<String>,
    pub criu: checkpoint::Flags,
}

/// `doctor`.
#[derive(Debug, Clone)]
pub struct Doctor {
    /// What the caller is about to do; everything without.
    pub scope: Option<Scope>,
    pub json: bool,
    /// Print the profile, and look at nothing.
    pub apparmor_profile: bool,
}

/// `explain`, and `create` and `run` with `--dry-run`.
#[derive(Debug, Clone)]
pub struct Explain {
    /// Without an id where none was given.
    pub create: Create,
    pub detach: bool,
    pub json: bool,
}

/// `spec`.
#[derive(Debug, Clone)]
pub struct Spec {
    pub bundle: Option<PathBuf>,
    pub rootless: bool,
    pub subids: bool,
    /// A configuration to rewrite for who is not root.
    pub from: Option<PathBuf>,
}

/// A uid, and perhaps a gid.
pub type Ids = (u32, Option<u32>);

/// `exec`.
#[derive(Debug, Clone)]
pub struct Exec {
    pub id: String,
    pub command: Vec<String>,
    pub console_socket: Option<PathBuf>,
    pub pidfd_socket: Option<PathBuf>,
    pub cwd: Option<String>,
    pub env: Vec<String>,
    pub tty: bool,
    pub user: Option<Ids>,
    pub additional_gids: Vec<u32>,
    pub process: Option<PathBuf>,
    pub detach: bool,
    pub pid_file: Option<PathBuf>,
    pub process_label: Option<String>,
    pub apparmor: Option<String>,
    pub no_new_privs: bool,
    pub caps: Vec<String>,
    pub preserve_fds: u32,
    pub cgroup: Vec<String>,
    pub ignore_paused: bool,
}

/// `bundle`.
#[derive(Debug, Clone, Default)]
pub struct Bundle {
    /// SRC, as it was typed.
    pub from: String,
    pub dir: PathBuf,
    /// In the place of the image's own.
    pub command: Vec<String>,
    pub flat: bool,
    pub tty: bool,
    /// `--store`, else $BRYO_STORE.
    pub store: Option<PathBuf>,
    /// Remove unused layers, and make no bundle.
    pub prune: bool,
}

/// `update`: what was typed, as it was typed.
#[derive(Debug, Clone, Default)]
pub struct Update {
    pub id: String,
    /// A file of LinuxResources, or `-` for standard input.
    pub resources: Option<PathBuf>,
    pub blkio_weight: Option<String>,
    pub cpu_period: Option<String>,
    pub cpu_quota: Option<String>,
    pub cpu_burst: Option<String>,
    pub cpu_share: Option<String>,
    pub cpu_idle: Option<String>,
    pub cpu_rt_period: Option<String>,
    pub cpu_rt_runtime: Option<String>,
    pub cpuset_cpus: Option<String>,
    pub cpuset_mems: Option<String>,
    pub memory: Option<String>,
    pub memory_reservation: Option<String>,
    pub memory_swap: Option<String>,
    pub pids_limit: Option<String>,
    pub l3_cache_schema: Option<String>,
    pub mem_bw_schema: Option<String>,
}

/// What there is to do.
#[derive(Debug)]
pub enum Call {
    Verb(Box<Global>, Verb),
    /// Text to print: help or version.
    Print(String),
}

/// The words that are verbs.
pub const VERBS: [&str; 24] = [
    "bundle",
    "checkpoint",
    "completion",
    "create",
    "delete",
    "doctor",
    "events",
    "exec",
    "explain",
    "features",
    "kill",
    "list",
    "man",
    "pause",
    "ps",
    "remove-tree",
    "restore",
    "resume",
    "run",
    "spec",
    "start",
    "state",
    "unshare",
    "update",
];

fn option(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).value_name("value").overrides_with(name)
}

/// One of these words. An empty one is as good as none to runc, and is no word to suggest.
fn word(name: &'static str, help: &'static str, words: &[&'static str]) -> Arg {
    let none = PossibleValue::new("").hide(true);
    option(name, help)
        .value_parser(PossibleValuesParser::new(words.iter().copied().map(PossibleValue::new).chain([none])))
}

/// Read with [`path_of`]: clap's own paths cannot be empty.
fn path(name: &'static str, help: &'static str) -> Arg {
    option(name, help).value_parser(clap::value_parser!(OsString)).value_hint(ValueHint::AnyPath)
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).action(ArgAction::SetTrue).overrides_with(name)
}

fn number(name: &'static str, help: &'static str) -> Arg {
    option(name, help).value_parser(clap::value_parser!(u32)).default_value("0")
}

fn id() -> Arg {
    Arg::new("id").value_name("container-id").required(true)
}

/// The whole command line.
///
/// Of the verbs only those are defined that `called` says occur: a definition costs more time than most verbs
/// take.
fn command(name: &str, called: impl Fn(&str) -> bool) -> Command {
    let command = Command::new("bryo")
        .about("Open Container Initiative runtime, rootless first")
        .help_template(help(name))
        .disable_version_flag(true)
        .subcommand_required(true)
        .after_help("The codes of warnings and refusals are explained by: bryo help codes")
        .args([
            flag("debug", "enable debug logging"),
            path("log", "write the error that ends a command to this file, too"),
            word("log-format", "format of the log file", &["text", "json"])
                .default_value("text"),
            option("log-level", "crun's name for --debug: debug, warning or error")
                .value_parser(["debug", "info", "warning", "error"]),
            path("root", "directory for the state of containers (on tmpfs)"),
            path("criu", "the criu program, for checkpoint and restore").hide(true),
            flag("systemd-cgroup", "have systemd make the cgroups"),
            option("cgroup-manager", "who makes the cgroups")
                .value_parser(["cgroupfs", "systemd", "disabled"]),
            option(
                "degrade",
                "auto: weaker means are fine; strict: they are not; and what may go: limits, groups, proc, network, devices, apparmor (with commas between; else $BRYO_DEGRADE)",
            ),
            word("rootless", "accepted for runc's callers: bryo looks at what it may do", &["true", "false", "auto"])
                .default_value("auto"),
            Arg::new("version")
                .long("version")
                .short('v')
                .help("print the version")
                .action(ArgAction::SetTrue),
        ]);
    type Definition = (&'static str, &'static str, fn(Command) -> Command);
    let verbs: [Definition; 24] = [
        ("bundle", "make a bundle from an image, a root file system or this machine's own system", bundle),
        ("checkpoint", "checkpoint a running container", checkpoint),
        ("completion", "print a script that completes the command line", completion),
        ("create", "create a container", create),
        ("delete", "delete any resources held by the container", delete),
        ("doctor", "say what this host lets you do, and what to do about the rest", doctor),
        (
            "events",
            "display container events such as OOM notifications, cpu, memory, and IO usage statistics",
            events,
        ),
        ("exec", "execute new process inside the container", exec),
        ("explain", "tell what would be done to run a bundle here, and do nothing", explain),
        ("features", "show the enabled features", |c| c),
        ("kill", "send a signal to the container's init process", kill),
        ("list", "list the containers below the root directory", list),
        ("man", "print a page of the manual", man),
        ("pause", "suspend all processes inside the container", |c| c.arg(id())),
        ("ps", "display the processes running inside a container", ps),
        ("remove-tree", "remove directories that hold files of your subordinate ids", remove_tree),
        ("restore", "restore a container from a previous checkpoint", restore),
        ("resume", "resume all processes that have been previously paused", |c| c.arg(id())),
        ("run", "create and run a container", run),
        ("spec", "create a new specification file", spec),
        ("start", "execute the user defined process in a created container", |c| c.arg(id())),
        ("state", "output the state of a container", |c| c.arg(id())),
        ("unshare", "run a command, or a shell, as root over all ids that are yours", unshare),
        ("update", "update container resource constraints", update),
    ];
    let verbs = verbs.into_iter().filter(|(name, ..)| called(name));
    verbs.fold(command, |command, (verb, about, build)| {
        let help = help(&format!("{name} {verb}"));
        command.subcommand(Command::new(verb).about(about).help_template(help).defer(build))
    })
}

/// All of it, for the manual and for shells.
pub fn definition() -> Command {
    let mut definition = command("bryo", |_| true).disable_help_subcommand(true);
    definition.build();
    definition
}

/// Help begins as a man page does, and as runc's.
fn help(name: &str) -> String {
    format!("NAME:\n   {name} - {{about}}\n\n{{usage-heading}} {{usage}}\n\n{{all-args}}{{after-help}}")
}

/// What we are called by: who installs bryo as runc reads of runc.
fn own_name(args: &[OsString]) -> String {
    let called = args.first().and_then(|path| Path::new(path).file_name());
    called.map_or_else(|| "bryo".into(), |name| name.to_string_lossy().into_owned())
}

fn bundle(command: Command) -> Command {
    command
        .args([
            option("from", "oci:PATH[:REF], docker-archive:FILE[:REF], a tar of a root file system (- for standard input), a directory, or host")
                .value_name("SRC")
                .allow_hyphen_values(true)
                .required_unless_present("prune"),
            flag("flat", "unpack everything into DIR/rootfs, for any runtime, and not into the store"),
            flag("tty", "give the container a terminal").short('t'),
            path("store", "the store of layers that bundles share"),
            flag("prune", "remove the layers that no bundle uses from the store, and make no bundle")
                .conflicts_with_all(["from", "flat", "tty", "dir", "command"]),
            Arg::new("dir")
                .value_name("DIR")
                .help("the bundle; it must be empty, or not exist")
                .value_parser(clap::value_parser!(PathBuf))
                .required_unless_present("prune"),
            Arg::new("command")
                .value_name("command")
                .help("what to run in the place of the image's Cmd")
                .num_args(0..)
                .last(true),
        ])
        .after_help(BUNDLE_HELP)
}

fn completion(command: Command) -> Command {
    command.arg(Arg::new("shell").value_name("shell").value_parser(["bash", "zsh", "fish"]).required(true))
}

fn man(command: Command) -> Command {
    command.args([
        path("all", "write the pages of all commands into this directory").conflicts_with("verb"),
        Arg::new("verb").value_name("command").help("the page of this command; without, the one of bryo"),
    ])
}

const BUNDLE_HELP: &str = "\
PATH and REF may have colons: PATH ends at the first colon before which there is something on the disk. REF is a name
in the layout or archive, or a digest; without it there has to be one image for this machine. A file that is called
host, - or like a prefix is named with ./ before it. A terminal is given only with --tty, since most images are of
servers, and `bryo run -d` has none.";

fn create(command: Command) -> Command {
    decisive(command).args([
        path("console-socket", "AF_UNIX socket that receives the terminal's master"),
        path("pidfd-socket", "AF_UNIX socket that receives a pidfd of the process"),
        path("pid-file", "file to write the process id to"),
        flag("dry-run", "tell what would be done, as explain does, and do nothing"),
        id(),
    ])
}

/// The flags that a plan depends on.
fn decisive(command: Command) -> Command {
    command.args([
        path("bundle", "the bundle directory").short('b').default_value("."),
        flag("no-pivot", "do not use pivot_root (for a root file system on a ramdisk)"),
        flag("no-new-keyring", "do not create a new session keyring"),
        number("preserve-fds", "pass N additional file descriptors to the container"),
        option(
            "network",
            "connect it: auto, none, host, pasta, slirp4netns or ns:PATH (default: as config.json says)",
        )
        .value_parser(network::parse),
        Arg::new("publish")
            .long("publish")
            .short('p')
            .help("publish a port or a range: [IP:]HOST:CONTAINER[/udp]")
            .value_name("value")
            .value_parser(network::parse_publish)
            .action(ArgAction::Append),
        flag("ephemeral", "changes to the root file system vanish with the container"),
        path("overlay", "changes to the root file system are kept in this directory, for the next run too")
            .conflicts_with("ephemeral"),
    ])
}

fn explain(command: Command) -> Command {
    decisive(command)
        .args([
            flag("json", "print it as JSON"),
            id().required(false)
                .help("the id that it would have (default: the name of the bundle's directory)"),
        ])
        .after_help(EXPLAIN_HELP)
}

const EXPLAIN_HELP: &str = "\
Exits with 0 if the container would be made, and with 1 if it would be refused: with the line that run would print, after
what is known. What only the kernel can tell is shown with what would be done instead.";

fn run(command: Command) -> Command {
    create(command).args([
        flag("detach", "detach from the container's process").short('d'),
        flag("keep", "do not delete the container after it exits"),
        flag("no-subreaper", "do not reap reparented processes"),
    ])
}

/// What checkpoint and restore have in common.
fn criu(command: Command) -> Command {
    command.args([
        path("image-path", "the directory of the images (default: checkpoint, below the current one)"),
        path("work-path", "the directory of criu's log and other files (default: that of the images)"),
        flag("tcp-established", "allow open TCP connections"),
        flag("ext-unix-sk", "allow external unix sockets"),
        flag("shell-job", "allow a terminal that is not the container's own"),
        flag("file-locks", "handle file locks, of which the container has to be the only user"),
        flag("lazy-pages", "bring memory when it is needed, by userfaultfd(2)"),
        word(
            "manage-cgroups-mode",
            "what becomes of cgroups: soft (default), full, strict or ignore",
            &["soft", "full", "strict", "ignore"],
        ),
        Arg::new("empty-ns")
            .long("empty-ns")
            .help("a namespace whose properties are left out; network, which is always one")
            .value_name("value")
            .value_parser(["network"])
            .action(ArgAction::Append),
        flag("auto-dedup", "remove from images what later ones or a restore make superfluous"),
        id(),
    ])
}

fn checkpoint(command: Command) -> Command {
    criu(command).args([
        path(
            "parent-path",
            "the directory of an earlier dump, relative to the images: what has not changed is left out",
        ),
        flag("leave-running", "leave the container running"),
        flag("tcp-skip-in-flight", "leave out TCP connections that are being made"),
        flag("link-remap", "allow open files that were removed"),
        option("status-fd", "the descriptor that a zero byte is written to once lazy pages are to be had")
            .value_parser(clap::value_parser!(i32))
            .allow_hyphen_values(true),
        option("page-server", "ADDRESS:PORT of who is sent the memory").value_parser(page_server),
        flag("pre-dump", "dump memory alone, and leave the container running"),
    ])
}

fn restore(command: Command) -> Command {
    criu(command).args([
        path("bundle", "the bundle directory").short('b').default_value("."),
        path("console-socket", "AF_UNIX socket that receives the terminal's master"),
        path("pid-file", "file to write the process id to"),
        flag("detach", "detach from the container's process").short('d'),
        flag("no-subreaper", "do not reap reparented processes"),
        flag("no-pivot", "restore on a ramdisk, which pivot_root cannot leave"),
        option("lsm-profile", "the LSM profile of the restored processes: TYPE:NAME"),
        option("lsm-mount-context", "the LSM context of the restored mounts"),
    ])
}

fn page_server(text: &str) -> Result<(String, u16), String> {
    let wrong = || format!("{text:?} is not ADDRESS:PORT");
    let (address, port) =
        text.rsplit_once(':').filter(|(address, _)| !address.is_empty()).ok_or_else(wrong)?;
    let address = address.trim_start_matches('[').trim_end_matches(']');
    Ok((address.to_string(), port.parse().map_err(|_| wrong())?))
}

fn delete(command: Command) -> Command {
    command.args([
        flag("force", "forcibly delete the container if it is still running (uses SIGKILL)").short('f'),
        id(),
    ])
}

fn doctor(command: Command) -> Command {
    command
        .args([
            option("for", "look only at what this takes: run, network, limits, nested, podman or docker")
                .value_parser(Scope::ALL.map(Scope::name)),
            flag("json", "print JSON"),
            flag(
                "apparmor-profile",
                "print a profile for this binary that lets it use user namespaces, and look at nothing",
            )
            .conflicts_with_all(["for", "json"]),
        ])
        .after_help(DOCTOR_HELP)
}

const DOCTOR_HELP: &str = "\
Everything is tried, in processes that end, and nothing is left of it. It exits with 0 if all is well, 1 if something is
degraded (a container runs, with weaker means, or some requests are refused), and 2 if something is blocked: then `bryo
run` refuses with the same code. `bryo help codes` explains the codes.

JSON is an object of version, status (ok, degraded or blocked) and findings: objects of what, status, code (null where
all is well), evidence, fix (or null) and needs_root. With --for nested there is also outer, with the command line
for docker and for podman and the fields for kubernetes that an outer container needs.";

fn kill(command: Command) -> Command {
    command.args([
        flag("all", "no error if the container is not running").short('a').hide(true),
        id(),
        Arg::new("signal").value_name("signal").default_value("SIGTERM").allow_hyphen_values(true),
    ])
}

fn format() -> Arg {
    word("format", "table or json", &["table", "json"]).short('f').default_value("table")
}

fn list(command: Command) -> Command {
    command.args([format(), flag("quiet", "display only container ids").short('q')])
}

fn ps(command: Command) -> Command {
    command.args([
        format(),
        id(),
        Arg::new("args")
            .value_name("ps options")
            .num_args(0..)
            .trailing_var_arg(true)
            .allow_hyphen_values(true),
    ])
}

fn remove_tree(command: Command) -> Command {
    command.arg(
        Arg::new("path")
            .help("a directory, or a file")
            .value_name("path")
            .num_args(1..)
            .required(true)
            .value_parser(clap::value_parser!(PathBuf)),
    )
}

fn unshare(command: Command) -> Command {
    command.arg(
        Arg::new("command")
            .help("the command and its arguments; without, $SHELL")
            .value_name("command")
            .num_args(0..)
            .trailing_var_arg(true)
            .allow_hyphen_values(true)
            .value_parser(clap::value_parser!(OsString)),
    )
}

fn events(command: Command) -> Command {
    command.args([
        option("interval", "set the stats collection interval").default_value("5s").allow_hyphen_values(true),
        flag("stats", "display the container's stats then exit"),
        id(),
    ])
}

fn update(command: Command) -> Command {
    // A number may be negative.
    let value = |name, help| option(name, help).allow_hyphen_values(true);
    command.args([
        path("resources", "read the resources from this file, or from - for standard input").short('r'),
        value("blkio-weight", "weight of block input and output, 10 to 1000"),
        value("cpu-period", "length of a cpu period in microseconds"),
        value("cpu-quota", "allowed cpu time in a period in microseconds"),
        value("cpu-burst", "cpu time that may be saved up for a burst in microseconds"),
        value("cpu-share", "cpu shares, relative to other containers"),
        value("cpu-rt-period", "refused: cgroup v2 has no real-time limits"),
        value("cpu-rt-runtime", "refused: cgroup v2 has no real-time limits"),
        value("cpu-idle", "1 for a container that only runs when nobody else does, else 0"),
        value("cpuset-cpus", "processors to use, such as 0-3,8"),
        value("cpuset-mems", "memory nodes to use, such as 0-1"),
        value("memory", "memory limit in bytes, or with a suffix such as 512m"),
        value("memory-reservation", "memory that is protected from reclaim, likewise"),
        value("memory-swap", "limit of memory and swap together, likewise; -1 for no limit of swap"),
        value("pids-limit", "number of processes and threads, -1 for no limit"),
        value("l3-cache-schema", "Intel RDT schema of the L3 cache"),
        value("mem-bw-schema", "Intel RDT schema of the memory bandwidth"),
        id(),
    ])
}

fn spec(command: Command) -> Command {
    command.args([
        path("bundle", "the bundle directory").short('b'),
        flag("rootless", "a configuration for who is not root"),
        flag("subids", "map all of the caller's subordinate ids").requires("rootless"),
        path("from-config", "rewrite this configuration, so that it works for who is not root")
            .requires("rootless")
            .conflicts_with("subids"),
    ])
}

fn exec(command: Command) -> Command {
    let many = |name: &'static str, short: char, help: &'static str| {
        Arg::new(name).long(name).short(short).help(help).value_name("value").action(ArgAction::Append)
    };
    command.args([
        path("console-socket", "AF_UNIX socket that receives the terminal's master"),
        path("pidfd-socket", "AF_UNIX socket that receives a pidfd of the process"),
        option("cwd", "current working directory in the container"),
        many("env", 'e', "set environment variables"),
        flag("tty", "allocate a pseudo-TTY").short('t'),
        option("user", "UID (format: <uid>[:<gid>])").short('u').value_parser(user_or_none),
        many("additional-gids", 'g', "additional gids").value_parser(clap::value_parser!(u32)),
        path("process", "path to the process.json").short('p'),
        flag("detach", "detach from the container's process").short('d'),
        path("pid-file", "file to write the process id to"),
        option("process-label", "SELinux label of the process"),
        option("apparmor", "AppArmor profile of the process"),
        flag("no-new-privs", "set the no new privileges value for the process"),
        many("cap", 'c', "add a capability to the bounding set for the process"),
        number("preserve-fds", "pass N additional file descriptors to the process"),
        Arg::new("cgroup")
            .long("cgroup")
            .help("run the process in an (existing) sub-cgroup")
            .value_name("value")
            .action(ArgAction::Append),
        flag("ignore-paused", "allow exec in a paused container"),
        id(),
        Arg::new("command")
            .value_name("command")
            .num_args(0..)
            .trailing_var_arg(true)
            .allow_hyphen_values(true),
    ])
}

fn user_or_none(text: &str) -> Result<Option<Ids>, String> {
    if text.is_empty() { Ok(None) } else { user(text).map(Some) }
}

/// Ids are decimal numbers and nothing else: no sign, no blanks, no names (CVE-2016-3697).
fn user(text: &str) -> Result<Ids, String> {
    let id = |text: &str| -> Result<u32, String> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = if digits { text.parse().ok() } else { None };
        // The last one is the kernel's "no change".
        number.filter(|n| *n != u32::MAX).ok_or(format!("{text:?} is not an id"))
    };
    match text.split_once(':') {
        Some((uid, gid)) => Ok((id(uid)?, Some(id(gid)?))),
        None => Ok((id(text)?, None)),
    }
}

/// `bryo help codes [CODE...]`, which is no verb.
fn help_codes(args: &[OsString]) -> Option<Result<String, String>> {
    let words: Vec<&str> = args.iter().skip(1).map(|arg| arg.to_str().unwrap_or_default()).collect();
    match words[..] {
        ["help", "codes"] => Some(Ok(codes::table())),
        ["help", "codes", ref names @ ..] => Some(codes::named(names)),
        _ => None,
    }
}

/// Reads the command line.
///
/// # Errors
/// One line that says what is wrong with it.
pub fn parse(args: &[OsString]) -> Result<Call, String> {
    if let Some(topic) = help_codes(args) {
        return topic.map(Call::Print);
    }
    // runc prints its version whatever else is missing, a verb included.
    let is_verb = |arg: &OsString| VERBS.iter().any(|verb| arg == verb);
    if args.iter().skip(1).take_while(|arg| !is_verb(arg)).any(|arg| arg == "--version" || arg == "-v") {
        return Ok(Call::Print(version()));
    }
    // Whatever else that word may be, the verb is among those that are found like this.
    let called: Vec<&str> = VERBS.into_iter().filter(|name| args.iter().any(|arg| arg == name)).collect();
    let define = || command(&own_name(args), |name| called.is_empty() || called.contains(&name));
    let matches = match define().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) if !error.use_stderr() => return Ok(Call::Print(error.render().to_string())),
        Err(error) => {
            return match without_value(args, &error, define()) {
                Some(args) => parse(&args),
                None => Err(line(&error)),
            };
        }
    };
    let global = Global {
        debug: matches.get_flag("debug") || text(&matches, "log-level").as_deref() == Some("debug"),
        log: Log {
            file: path_of(&matches, "log"),
            json: text(&matches, "log-format").as_deref() == Some("json"),
        },
        root: path_of(&matches, "root"),
        systemd_cgroup: matches.get_flag("systemd-cgroup"),
        cgroup_manager: text(&matches, "cgroup-manager"),
        criu: path_of(&matches, "criu"),
        degrade: text(&matches, "degrade").or_else(|| std::env::var("BRYO_DEGRADE").ok()),
    };
    let (name, sub) = matches.subcommand().ok_or("no command given; fix: see bryo --help")?;
    Ok(Call::Verb(Box::new(global), verb(name, sub)))
}

/// The log that a command line asks for which cannot be read otherwise: what its words before the verb tell of one.
pub fn log(args: &[OsString]) -> Log {
    let definition = command("", |_| false);
    let mut log = Log::default();
    let mut words = args.iter().skip(1).map(|word| word.as_bytes());
    while let Some(word) = words.next().filter(|word| word.starts_with(b"-")) {
        let (name, attached) = match word.iter().position(|byte| *byte == b'=') {
            Some(at) => (&word[..at], Some(&word[at + 1..])),
            None => (word, None),
        };
        let is_it = |arg: &&Arg| {
            let long = arg.get_long().map(str::as_bytes);
            arg.get_action().takes_values() && name.strip_prefix(b"--") == long && long.is_some()
        };
        let Some(option) = definition.get_arguments().find(is_it) else { continue };
        let value = attached.or_else(|| words.next()).unwrap_or_default();
        match option.get_id().as_str() {
            "log" => log.file = Some(OsStr::from_bytes(value).into()).filter(|_| !value.is_empty()),
            "log-format" => log.json = value == b"json",
            _ => {}
        }
    }
    log
}

/// What clap says, as one line.
fn line(error: &clap::Error) -> String {
    if let Some(flag) = lacks_value(error) {
        return format!("flag needs an argument: {flag}; fix: see bryo --help, or bryo COMMAND --help");
    }
    if let Some(word) = no_command(error) {
        return format!("No help topic for '{word}': there is no such command; fix: see bryo --help");
    }
    let text = error.render().to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let first = crate::report::one_line(first.strip_prefix("error: ").unwrap_or(first));
    format!("{first}; fix: see bryo --help, or bryo COMMAND --help")
}

/// The arguments with one flag that has a value, as Go's have (`--detach=false`), made one that has none, if that is what
/// was refused. One that is false is not there, and neither is what was said of it before.
fn without_value(args: &[OsString], error: &clap::Error, mut definition: Command) -> Option<Vec<OsString>> {
    let refused = context(error, ContextKind::InvalidArg)?;
    let is_refused = |name: &str| match error.kind() {
        ErrorKind::TooManyValues => name == refused,
        // What is attached to a short flag is more of them to clap.
        ErrorKind::UnknownArgument => refused == "-=" && name.len() == 2,
        _ => false,
    };
    definition.build();
    let commands = std::iter::once(&definition).chain(definition.get_subcommands());
    let flags = commands.flat_map(Command::get_arguments).filter(|arg| !arg.get_action().takes_values());
    let names: Vec<[String; 2]> = flags.map(names).collect();
    let (at, names, is_set) = args.iter().enumerate().find_map(|(at, word)| {
        let (name, value) = word.to_str()?.split_once('=')?;
        let names = names.iter().find(|names| names.iter().any(|it| it == name && is_refused(name)))?;
        Some((at, names, truth(value)?))
    })?;
    let (before, after) = (args.get(..at)?, args.get(at + 1..)?);
    let mut mended = before.to_vec();
    if is_set {
        mended.extend(names.first().map(OsString::from));
    } else {
        mended.retain(|word| word.is_empty() || names.iter().all(|name| word != name.as_str()));
    }
    mended.extend_from_slice(after);
    Some(mended)
}

/// What a flag is called, with its dashes; its short name is empty where it has none.
fn names(flag: &Arg) -> [String; 2] {
    let long = flag.get_long().map(|name| format!("--{name}"));
    let short = flag.get_short().map(|letter| format!("-{letter}"));
    [long.unwrap_or_default(), short.unwrap_or_default()]
}

/// The words of Go's strconv.ParseBool.
fn truth(word: &str) -> Option<bool> {
    match word {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn context(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text),
        _ => None,
    }
}

/// The word where a verb should be. In runc's words, by which scripts find out whether a runtime has a verb.
fn no_command(error: &clap::Error) -> Option<&str> {
    match error.kind() {
        ErrorKind::InvalidSubcommand => context(error, ContextKind::InvalidSubcommand),
        _ => None,
    }
}

/// The flag without its value. In these words Podman finds out whether a runtime knows a flag.
fn lacks_value(error: &clap::Error) -> Option<String> {
    if error.kind() != ErrorKind::InvalidValue || context(error, ContextKind::InvalidValue) != Some("") {
        return None;
    }
    context(error, ContextKind::InvalidArg)?.split_whitespace().next().map(String::from)
}

/// The value of an option. An empty one is none, as with runc: callers pass on what they have themselves not been given.
fn text(matches: &ArgMatches, name: &str) -> Option<String> {
    matches.get_one::<String>(name).filter(|text| !text.is_empty()).cloned()
}

/// The same for what [`path`] defines.
fn path_of(matches: &ArgMatches, name: &str) -> Option<PathBuf> {
    matches.get_one::<OsString>(name).filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn texts(matches: &ArgMatches, name: &str) -> Vec<String> {
    matches.get_many::<String>(name).into_iter().flatten().cloned().collect()
}

fn verb(name: &str, m: &ArgMatches) -> Verb {
    let id = || text(m, "id").unwrap_or_default();
    let json = || text(m, "format").as_deref() == Some("json");
    match name {
        "create" | "run" if m.get_flag("dry-run") => Verb::Explain(Explain {
            create: create_of(m),
            detach: name == "create" || m.get_flag("detach"),
            json: false,
        }),
        "explain" => {
            Verb::Explain(Explain { create: planned_of(m), detach: false, json: m.get_flag("json") })
        }
        "create" => Verb::Create(create_of(m)),
        "run" => Verb::Run(Run {
            create: create_of(m),
            detach: m.get_flag("detach"),
            keep: m.get_flag("keep"),
            no_subreaper: m.get_flag("no-subreaper"),
        }),
        "start" => Verb::Start { id: id() },
        "state" => Verb::State { id: id() },
        "kill" => {
            Verb::Kill { id: id(), signal: text(m, "signal").unwrap_or_default(), all: m.get_flag("all") }
        }
        "delete" => Verb::Delete { id: id(), force: m.get_flag("force") },
        "list" => Verb::List { quiet: m.get_flag("quiet"), json: json() },
        "ps" => Verb::Ps { id: id(), json: json(), args: texts(m, "args") },
        "doctor" => Verb::Doctor(Doctor {
            scope: text(m, "for").as_deref().and_then(Scope::named),
            json: m.get_flag("json"),
            apparmor_profile: m.get_flag("apparmor-profile"),
        }),
        "exec" => Verb::Exec(Box::new(exec_of(m))),
        "spec" => Verb::Spec(Spec {
            bundle: path_of(m, "bundle"),
            rootless: m.get_flag("rootless"),
            subids: m.get_flag("subids"),
            from: path_of(m, "from-config"),
        }),
        "features" => Verb::Features,
        "remove-tree" => {
            Verb::RemoveTree { paths: m.get_many("path").into_iter().flatten().cloned().collect() }
        }
        "unshare" => {
            Verb::Unshare { command: m.get_many("command").into_iter().flatten().cloned().collect() }
        }
        "pause" => Verb::Pause { id: id() },
        "resume" => Verb::Resume { id: id() },
        "events" => Verb::Events {
            id: id(),
            interval: text(m, "interval").unwrap_or_default(),
            stats: m.get_flag("stats"),
        },
        "bundle" => Verb::Bundle(Box::new(bundle_of(m))),
        "completion" => Verb::Completion { shell: text(m, "shell").unwrap_or_default() },
        "man" => Verb::Man { verb: text(m, "verb"), all: path_of(m, "all") },
        "update" => Verb::Update(Box::new(update_of(m))),
        "checkpoint" => Verb::Checkpoint(Box::new(checkpoint_of(m))),
        "restore" => Verb::Restore(Box::new(restore_of(m))),
        other => unreachable!("{other} is defined and not known"),
    }
}

fn criu_of(m: &ArgMatches) -> checkpoint::Flags {
    checkpoint::Flags {
        tcp_established: m.get_flag("tcp-established"),
        ext_unix_sk: m.get_flag("ext-unix-sk"),
        shell_job: m.get_flag("shell-job"),
        file_locks: m.get_flag("file-locks"),
        lazy_pages: m.get_flag("lazy-pages"),
        auto_dedup: m.get_flag("auto-dedup"),
        manage_cgroups: text(m, "manage-cgroups-mode").map(|mode| match mode.as_str() {
            "full" => CgroupMode::Full,
            "strict" => CgroupMode::Strict,
            "ignore" => CgroupMode::Ignore,
            _ => CgroupMode::Soft,
        }),
    }
}

fn checkpoint_of(m: &ArgMatches) -> Checkpoint {
    Checkpoint {
        id: text(m, "id").unwrap_or_default(),
        image_path: path_of(m, "image-path"),
        work_path: path_of(m, "work-path"),
        parent_path: path_of(m, "parent-path"),
        leave_running: m.get_flag("leave-running"),
        tcp_skip_in_flight: m.get_flag("tcp-skip-in-flight"),
        link_remap: m.get_flag("link-remap"),
        pre_dump: m.get_flag("pre-dump"),
        page_server: m.get_one("page-server").cloned(),
        status_fd: m.get_one("status-fd").copied(),
        criu: criu_of(m),
    }
}

fn restore_of(m: &ArgMatches) -> Restore {
    Restore {
        create: Create {
            id: text(m, "id").unwrap_or_default(),
            bundle: path_of(m, "bundle").unwrap_or_else(|| ".".into()),
            console_socket: path_of(m, "console-socket"),
            pid_file: path_of(m, "pid-file"),
            no_pivot: m.get_flag("no-pivot"),
            ..Create::default()
        },
        image_path: path_of(m, "image-path"),
        work_path: path_of(m, "work-path"),
        detach: m.get_flag("detach"),
        no_subreaper: m.get_flag("no-subreaper"),
        lsm_profile: text(m, "lsm-profile"),
        lsm_mount_context: text(m, "lsm-mount-context"),
        criu: criu_of(m),
    }
}

fn create_of(m: &ArgMatches) -> Create {
    Create {
        console_socket: path_of(m, "console-socket"),
        pidfd_socket: path_of(m, "pidfd-socket"),
        pid_file: path_of(m, "pid-file"),
        ..planned_of(m)
    }
}

/// As far as a plan depends on it.
fn planned_of(m: &ArgMatches) -> Create {
    Create {
        id: text(m, "id").unwrap_or_default(),
        bundle: path_of(m, "bundle").unwrap_or_else(|| ".".into()),
        console_socket: None,
        pidfd_socket: None,
        pid_file: None,
        no_pivot: m.get_flag("no-pivot"),
        no_new_keyring: m.get_flag("no-new-keyring"),
        preserve_fds: m.get_one("preserve-fds").copied().unwrap_or(0),
        network: m.get_one("network").cloned(),
        publish: m.get_many("publish").into_iter().flatten().copied().collect(),
        ephemeral: m.get_flag("ephemeral"),
        overlay: path_of(m, "overlay"),
    }
}

fn bundle_of(m: &ArgMatches) -> Bundle {
    Bundle {
        from: text(m, "from").unwrap_or_default(),
        dir: m.get_one("dir").cloned().unwrap_or_default(),
        command: texts(m, "command"),
        flat: m.get_flag("flat"),
        tty: m.get_flag("tty"),
        store: path_of(m, "store").or_else(|| std::env::var_os("BRYO_STORE").map(PathBuf::from)),
        prune: m.get_flag("prune"),
    }
}

fn exec_of(m: &ArgMatches) -> Exec {
    Exec {
        id: text(m, "id").unwrap_or_default(),
        command: texts(m, "command"),
        console_socket: path_of(m, "console-socket"),
        pidfd_socket: path_of(m, "pidfd-socket"),
        cwd: text(m, "cwd"),
        env: texts(m, "env"),
        tty: m.get_flag("tty"),
        user: m.get_one::<Option<Ids>>("user").copied().flatten(),
        additional_gids: m.get_many("additional-gids").into_iter().flatten().copied().collect(),
        process: path_of(m, "process"),
        detach: m.get_flag("detach"),
        pid_file: path_of(m, "pid-file"),
        process_label: text(m, "process-label"),
        apparmor: text(m, "apparmor"),
        no_new_privs: m.get_flag("no-new-privs"),
        caps: texts(m, "cap"),
        preserve_fds: m.get_one("preserve-fds").copied().unwrap_or(0),
        cgroup: texts(m, "cgroup").into_iter().filter(|path| !path.is_empty()).collect(),
        ignore_paused: m.get_flag("ignore-paused"),
    }
}

fn update_of(m: &ArgMatches) -> Update {
    let text = |name| text(m, name);
    Update {
        id: text("id").unwrap_or_default(),
        resources: path_of(m, "resources"),
        blkio_weight: text("blkio-weight"),
        cpu_period: text("cpu-period"),
        cpu_quota: text("cpu-quota"),
        cpu_burst: text("cpu-burst"),
        cpu_share: text("cpu-share"),
        cpu_idle: text("cpu-idle"),
        cpu_rt_period: text("cpu-rt-period"),
        cpu_rt_runtime: text("cpu-rt-runtime"),
        cpuset_cpus: text("cpuset-cpus"),
        cpuset_mems: text("cpuset-mems"),
        memory: text("memory"),
        memory_reservation: text("memory-reservation"),
        memory_swap: text("memory-swap"),
        pids_limit: text("pids-limit"),
        l3_cache_schema: text("l3-cache-schema"),
        mem_bw_schema: text("mem-bw-schema"),
    }
}

/// For the foot of the pages of the manual.
pub const NAME_AND_VERSION: &str = concat!("bryo ", env!("CARGO_PKG_VERSION"));

/// The version; go-runc reads the prefixes of its lines.
fn version() -> String {
    let commit = option_env!("BRYO_COMMIT").unwrap_or("unknown");
    format!(
        "bryo version {}\ncommit: {commit}\nspec: {}\n",
        env!("CARGO_PKG_VERSION"),
        crate::bundle::OCI_VERSION
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(line: &str) -> Result<Call, String> {
        parse(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    fn parsed(line: &str) -> Verb {
        match call(line) {
            Ok(Call::Verb(_, verb)) => verb,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn every_definition_is_consistent() {
        for verb in VERBS {
            assert!(matches!(call(&format!("bryo {verb} --help")), Ok(Call::Print(_))), "{verb}");
        }
    }

    #[test]
    fn the_help_lists_every_verb_and_a_container_may_be_called_like_one() {
        let Ok(Call::Print(text)) = call("bryo --help") else { panic!() };
        assert!(VERBS.iter().all(|verb| text.contains(verb)), "{text}");
        assert!(matches!(parsed("bryo state list"), Verb::State { id } if id == "list"));
        assert!(matches!(parsed("bryo --root run kill start 9"), Verb::Kill { id, .. } if id == "start"));
    }

    #[test]
    fn options_are_taken_before_and_after_the_id() {
        for line in ["bryo create --bundle /b web", "bryo create web -b /b", "bryo create web --bundle=/b"] {
            match parsed(line) {
                Verb::Create(create) => assert_eq!((create.id.as_str(), create.bundle), ("web", "/b".into())),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn what_follows_the_command_of_exec_is_the_commands() {
        match parsed("bryo exec -t web --cwd /x sh -c -e --user") {
            Verb::Exec(exec) => {
                assert_eq!(exec.command, ["sh", "-c", "-e", "--user"]);
                assert_eq!(exec.cwd.as_deref(), Some("/x"));
                assert!(exec.tty && exec.user.is_none());
            }
            other => panic!("{other:?}"),
        }
    }

    /// Words that blanks do not tell apart.
    fn words(words: &[&str]) -> Result<Call, String> {
        parse(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn flags_have_the_values_that_go_gives_them() {
        let detached = |line: &str| match parsed(line) {
            Verb::Run(run) => (run.detach, run.keep),
            other => panic!("{line}: {other:?}"),
        };
        for word in ["1", "t", "T", "true", "TRUE", "True"] {
            assert_eq!(detached(&format!("bryo run --detach={word} web")), (true, false));
            assert_eq!(detached(&format!("bryo run -d={word} web")), (true, false));
        }
        for word in ["0", "f", "F", "false", "FALSE", "False"] {
            assert_eq!(detached(&format!("bryo run web --keep --detach={word}")), (false, true));
            assert_eq!(detached(&format!("bryo run -d={word} web --keep=true")), (false, true));
        }
        match words(&["bryo", "run", "--pid-file", "", "--keep=false", "web"]) {
            Ok(Call::Verb(_, Verb::Run(run))) => {
                assert_eq!((run.create.id.as_str(), run.keep), ("web", false))
            }
            other => panic!("{other:?}"),
        }
        // The last one counts.
        assert_eq!(detached("bryo run -d --detach --detach=true --detach=false web"), (false, false));
        assert_eq!(detached("bryo run --detach=false -d web"), (true, false));
        for bad in [
            "bryo run --detach=no web",
            "bryo run --detach= web",
            "bryo run -d=no web",
            "bryo run -x=true web",
        ] {
            assert!(call(bad).is_err(), "{bad}");
        }
        let Ok(Call::Verb(global, Verb::List { quiet: true, .. })) =
            call("bryo --debug=true --systemd-cgroup --systemd-cgroup=false list -q=1")
        else {
            panic!()
        };
        assert!(global.debug && !global.systemd_cgroup);
        assert!(matches!(parsed("bryo delete --force=true web"), Verb::Delete { force: true, .. }));
        assert!(matches!(call("bryo --version=true"), Ok(Call::Print(_))));
    }

    #[test]
    fn the_values_of_flags_of_a_command_are_its_own() {
        match parsed("bryo exec -d=false --tty=true web ls --tty=false -d=true -t --detach") {
            Verb::Exec(exec) => {
                assert!(exec.tty && !exec.detach);
                assert_eq!(exec.command, ["ls", "--tty=false", "-d=true", "-t", "--detach"]);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_log_of_a_line_that_makes_no_sense_is_found() {
        let asked = |line: &str| log(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>());
        let wanted = |file: &str, json| Log { file: Some(file.into()), json };
        for line in [
            "bryo --log /l --log-format json --fly run web",
            "bryo --fly --debug --log=/first --log=/l --log-format=json",
            "bryo --root run -x --log-format text --log /l --log-format json fly",
            "bryo --log /l --rootless=maybe --log-format json state",
            "bryo --systemd-cgroup --log /l --log-format json exec --log /x",
        ] {
            assert_eq!(asked(line), wanted("/l", true), "{line}");
        }
        assert_eq!(asked("bryo --log /l --log-format xml list"), wanted("/l", false));
        for line in ["bryo", "bryo --log", "bryo --log= list", "bryo run --log /l", "bryo --root --log"] {
            assert_eq!(asked(line), Log::default(), "{line}");
        }
    }

    #[test]
    fn an_empty_value_is_none() {
        let exec = "bryo exec --user  --cwd  --cgroup  -p  --console-socket  --pidfd-socket  --pid-file  \
                    --process-label  --apparmor  web true";
        match words(&exec.split(' ').collect::<Vec<_>>()) {
            Ok(Call::Verb(_, Verb::Exec(exec))) => {
                assert_eq!(
                    (exec.user, &exec.cwd, &exec.process, &exec.pid_file),
                    (None, &None, &None, &None)
                );
                assert_eq!((&exec.console_socket, &exec.pidfd_socket, &exec.apparmor), (&None, &None, &None));
                assert_eq!((exec.process_label, exec.id.as_str()), (None, "web"));
                assert!(exec.cgroup.is_empty() && exec.command == ["true"]);
            }
            other => panic!("{other:?}"),
        }
        match words(&["bryo", "--log=", "--root", "", "--criu", "", "create", "-b", "", "--pid-file=", "web"])
        {
            Ok(Call::Verb(global, Verb::Create(create))) => {
                assert_eq!((global.log.file, global.root, global.criu), (None, None, None));
                assert_eq!((create.bundle, create.pid_file), (".".into(), None));
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(words(&["bryo", "update", "--memory", "", "web"]),
            Ok(Call::Verb(_, Verb::Update(update))) if update.memory.is_none()));
        match words(&["bryo", "--log-format=", "--rootless", "", "list", "--format", "", "-q"]) {
            Ok(Call::Verb(global, Verb::List { quiet: true, json: false })) => assert!(!global.log.json),
            other => panic!("{other:?}"),
        }
        let error = words(&["bryo", "--log-format"]).unwrap_err();
        assert!(error.starts_with("flag needs an argument: --log-format;"), "{error}");
        for word in ["--pid-file", "--bundle", "--console-socket"] {
            let error = call(&format!("bryo create web {word}")).unwrap_err();
            assert!(error.starts_with(&format!("flag needs an argument: {word};")), "{error}");
        }
        assert!(words(&["bryo", "create", "--preserve-fds", "", "web"]).is_err());
    }

    #[test]
    fn ids_of_users_are_strict_numbers() {
        assert_eq!(user("1"), Ok((1, None)));
        assert_eq!(user("1:2"), Ok((1, Some(2))));
        for bad in
            ["4294967296", "4294967295", "1x", "+1", "-1", " 1", "", "1:", ":1", "1:2:3", "root", "0x1"]
        {
            assert!(user(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_signal_may_be_a_number_or_a_name() {
        for (line, wanted) in
            [("bryo kill web 9", "9"), ("bryo kill web KILL", "KILL"), ("bryo kill --all web", "SIGTERM")]
        {
            match parsed(line) {
                Verb::Kill { signal, .. } => assert_eq!(signal, wanted),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn bad_words_are_one_line() {
        for line in [
            "bryo",
            "bryo fly",
            "bryo run",
            "bryo run --fly x",
            "bryo --log-format xml list",
            "bryo exec -u 1x web sh",
        ] {
            let error = call(line).unwrap_err();
            assert!(!error.contains('\n') && error.contains("; fix: "), "{error}");
        }
    }

    #[test]
    fn the_version_has_the_prefixes_that_go_runc_reads() {
        let Ok(Call::Print(text)) = call("bryo --version") else { panic!() };
        assert!(matches!(call("bryo --root /x --version"), Ok(Call::Print(same)) if same == text));
        assert!(matches!(parsed("bryo exec web sh -v"), Verb::Exec(_)));
        let prefixes: Vec<_> = text.lines().map(|l| l.split_inclusive(' ').next().unwrap()).collect();
        assert_eq!(prefixes, ["bryo ", "commit: ", "spec: "]);
    }
}
