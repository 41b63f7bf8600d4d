//! Podman: the same cases for a plain user and for root, and those that only one of them has.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::LazyLock;

use crate::lab::{
    PATIENCE, Place, Program, Ran, configure, fails_with, is_root, is_running, namespace, needs, not_here,
};
use crate::lab::{cgroup_values, runtime, runtime_name, wait_until};

/// Podman with storage of its own.
pub struct Podman {
    pub place: Place,
}

/// The one of this suite, with the image `moss`.
pub fn podman() -> &'static Podman {
    static PODMAN: LazyLock<Podman> = LazyLock::new(|| {
        let place = Place::new("podman", &format!("podman {} rm --all --force --time 0", GLOBAL));
        configure("podman", &place.dir.join("home"));
        // The guest's kernel has no nftables for inet, by which netavark makes its firewall. No network where a
        // case is not about networks saves a third of its time.
        let conf = "[network]\nfirewall_driver = \"none\"\n\
                    [containers]\nnetns = \"none\"\nlog_driver = \"k8s-file\"\n\
                    [engine]\nevents_logger = \"file\"\n";
        // Root's file would be the machine's, and Podman 4.3 has no such variable.
        fs::write(place.dir.join("override.conf"), conf).unwrap();
        fs::create_dir_all(place.dir.join("home/.config/containers")).unwrap();
        fs::write(place.dir.join("home/.config/containers/containers.conf"), conf).unwrap();
        let podman = Podman { place };
        podman.call("import").arg(&podman.place.image()).words("moss").run().ok();
        podman
    });
    &PODMAN
}

const GLOBAL: &str = "--root $DIR/storage --runroot $DIR/run --tmpdir $DIR/tmp";

impl Podman {
    /// `podman`, its places, and these words.
    pub fn call(&self, line: &str) -> Program {
        let runtime = if runtime_name() == "bryo" { "bryo" } else { runtime().to_str().unwrap() };
        self.plain("podman").words(&self.global()).words(&format!("--runtime {runtime} {line}"))
    }

    pub fn global(&self) -> String {
        GLOBAL.replace("$DIR", self.place.dir.to_str().unwrap())
    }

    /// Some program in Podman's environment.
    pub fn plain(&self, name: &str) -> Program {
        let home = self.place.dir.join("home");
        Program::new(name)
            .env("XDG_CONFIG_HOME", home.join(".config"))
            .env("HOME", home)
            .env("CONTAINERS_CONF_OVERRIDE", self.place.dir.join("override.conf"))
    }

    pub fn run(&self, line: &str) -> Ran {
        self.call(line).run()
    }

    /// `podman run --rm OPTIONS moss sh -c SCRIPT`
    fn sh(&self, options: &str, script: &str) -> Ran {
        assert!(!script.contains('\''), "{script}");
        self.run(&format!("run --rm {options} moss sh -c '{script}'"))
    }

    /// A container in the background that stays; the answer is its name.
    fn detached(&self, options: &str) -> String {
        self.background(options, "trap \"exit 0\" TERM; echo ready; sleep 1000 & wait")
    }

    fn background(&self, options: &str, script: &str) -> String {
        let name = self.place.name();
        self.run(&format!("run --detach --name {name} {options} moss sh -c '{script}'")).ok();
        name
    }

    fn inspect(&self, name: &str, format: &str) -> String {
        self.run(&format!("inspect --format '{format}' {name}")).text()
    }

    fn remove(&self, name: &str) {
        self.run(&format!("rm --force --time 0 {name}")).ok();
    }
}

fn lines(ran: Ran) -> Vec<String> {
    ran.ok().stdout.lines().map(|l| l.trim().to_owned()).collect()
}

mod run {
    use super::*;

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn shows_what_the_command_writes() {
        podman().sh("", "echo out; echo err >&2").prints("out").says("err");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn the_runtime_under_test_is_the_one_that_runs() {
        let p = podman();
        let name = p.detached("");
        assert!(p.inspect(&name, "{{.OCIRuntime}}").ends_with(runtime_name()));
        assert_eq!(p.inspect(&name, "{{.State.Status}} {{.State.Running}}"), "running true");
        let pid = p.inspect(&name, "{{.State.Pid}}");
        assert!(fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap().contains("echo ready"));
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn exit_code_is_the_commands() {
        podman().sh("", "exit 42").exits(42);
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn exit_code_of_a_signal_is_128_and_its_number() {
        let script = "sh -c \"kill -KILL \\$\\$\"; exit $?";
        podman().sh("", script).exits(137);
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn command_that_does_not_exist_is_127() {
        podman().run("run --rm moss no-such-command").exits(127).says("no-such-command");
        podman().run("run --rm moss /no/such/command").exits(127);
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn command_that_is_no_program_is_126() {
        podman().run("run --rm moss /bin/text").exits(126);
        podman().run("run --rm moss /etc").exits(126);
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn engine_error_is_125_with_the_runtimes_words() {
        // What the runtime is told to mount is not there; Podman asks for the source only.
        podman().run("run --rm --workdir /etc/passwd moss true").fails();
        podman().run("run --rm --cap-add NO_SUCH moss true").exits(125);
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn stdin_reaches_the_command() {
        podman().call("run --rm --interactive moss tr a-z A-Z").stdin("moss\n").run().prints("MOSS");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn terminal_is_a_terminal_of_the_users_size() {
        podman()
            .call("run --rm --interactive --tty moss sh")
            .on_terminal(33, 99, "test -t 0 && test -t 1 && stty size\nexit 7\n")
            .run()
            .exits(7)
            .says("33 99");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn environment_user_directory_and_hostname() {
        let options = "--env LEAF=green --user 1000:1000 --workdir /tmp --hostname bog";
        podman()
            .sh(options, "echo $LEAF $(id -u):$(id -g) $PWD $(hostname)")
            .prints("green 1000:1000 /tmp bog");
        podman().sh("--user moss", "id -un").prints("moss");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn created_then_started_attached() {
        let p = podman();
        let name = p.place.name();
        p.run(&format!("create --name {name} moss sh -c 'echo begun; exit 3'")).ok();
        assert_eq!(p.inspect(&name, "{{.State.Status}}"), "created");
        p.run(&format!("init {name}")).ok();
        assert_eq!(p.inspect(&name, "{{.State.Status}}"), "initialized");
        p.run(&format!("start --attach {name}")).exits(3).says("begun");
        p.remove(&name);
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn init_reaps_and_forwards() {
        podman().sh("--init", "cat /proc/1/comm").says("podman-init");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn timeout_kills() {
        podman().run("run --rm --timeout 1 moss sleep 100").fails();
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn preserved_descriptors_are_there() {
        let run = podman().call("run --rm --preserve-fds 1 moss cat /proc/self/fd/3");
        run.in_shell("exec 3<<<kept; exec \"$@\"").run().prints("kept");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn runtime_flags_are_passed_on() {
        podman().call("--runtime-flag debug run --rm moss echo said").run().ok().says("said");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn twenty_containers_at_once() {
        let p = podman();
        let base = p.place.name();
        let script = format!(
            "for i in $(seq 20); do \"$@\" run --detach --name {base}-$i moss sleep 1000 & done; wait; \
             \"$@\" ps --noheading --filter name={base}- --filter status=running | wc -l; \
             \"$@\" rm --force --time 0 --filter name={base}- | wc -l"
        );
        let out = lines(p.call("").in_shell(&script).run());
        assert_eq!(out[out.len() - 2..], ["20", "20"], "{out:?}");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn a_root_file_system_without_an_image() {
        let p = podman();
        let root = p.place.scratch();
        Program::new("tar").words("-xf").arg(&p.place.dir.join("moss.tar")).words("-C").arg(&root).run().ok();
        p.run(&format!("run --rm --rootfs {} echo bare", root.display())).prints("bare");
        p.run(&format!("run --rm --rootfs {}:O sh -c 'touch /new && echo bare'", root.display()))
            .prints("bare");
        assert!(!root.join("new").exists());
    }
}

mod exec {
    use super::*;

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn runs_in_the_container() {
        let p = podman();
        let name = p.detached("--hostname fen");
        p.run(&format!("exec {name} hostname")).prints("fen");
        p.run(&format!(
            "exec --user 1000 --workdir /tmp --env LEAF=red {name} sh -c 'echo $(id -u) $PWD $LEAF'"
        ))
        .prints("1000 /tmp red");
        p.call(&format!("exec --interactive {name} cat")).stdin("typed").run().prints("typed");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn exit_codes() {
        let p = podman();
        let name = p.detached("");
        p.run(&format!("exec {name} sh -c 'exit 9'")).exits(9);
        p.run(&format!("exec {name} no-such-command")).exits(127);
        p.run(&format!("exec {name} /bin/text")).exits(126);
        p.run(&format!("exec {name} sh -c 'kill -TERM $$'")).exits(143);
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn terminal_is_a_terminal_of_the_users_size() {
        let p = podman();
        let name = p.detached("");
        p.call(&format!("exec --interactive --tty {name} sh"))
            .on_terminal(31, 97, "stty size\nexit 4\n")
            .run()
            .exits(4)
            .says("31 97");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn detached() {
        let p = podman();
        let name = p.detached("");
        p.run(&format!("exec --detach {name} touch /tmp/done")).ok();
        wait_until("the file", || p.run(&format!("exec {name} test -e /tmp/done")).status.success());
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn privileged_exec_has_all_capabilities() {
        let p = podman();
        let name = p.detached("--cap-drop all");
        let caps =
            |options: &str| p.run(&format!("exec {options} {name} grep CapEff /proc/self/status")).text();
        assert!(caps("").ends_with("0000000000000000"));
        assert!(!caps("--privileged").ends_with("0000000000000000"));
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn preserved_descriptors_are_there() {
        let p = podman();
        let name = p.detached("");
        let call = p.call(&format!("exec --preserve-fds 1 {name} cat /proc/self/fd/3"));
        call.in_shell("exec 3<<<kept; exec \"$@\"").run().prints("kept");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn into_a_stopped_container_fails() {
        let p = podman();
        let name = p.background("", "exit 0");
        p.run(&format!("wait {name}")).prints("0");
        p.run(&format!("exec {name} true")).exits(255);
    }
}

mod life {
    use super::*;

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn logs_and_wait() {
        let p = podman();
        let name = p.background("", "echo one; echo two >&2; exit 6");
        p.run(&format!("wait {name}")).prints("6");
        p.run(&format!("logs {name}")).prints("one").says("two");
        assert_eq!(p.inspect(&name, "{{.State.ExitCode}} {{.State.Status}}"), "6 exited");
        p.remove(&name);
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn top_lists_processes() {
        let p = podman();
        let name = p.detached("");
        p.run(&format!("top {name} pid comm args")).ok().says("sleep 1000");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn stats_counts() {
        needs!(Cgroups);
        let p = podman();
        let name = p.detached("--memory 64m");
        let line =
            p.run(&format!("stats --no-stream --format '{{{{.PIDs}}}} {{{{.MemUsage}}}}' {name}")).text();
        assert!(line.starts_with("2 ") && line.ends_with("/ 67.11MB"), "{line}");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn stop_sends_the_signal_and_waits() {
        let p = podman();
        let name = p.background("", "trap \"exit 11\" TERM; echo ready; sleep 1000 & wait");
        wait_until("ready", || p.run(&format!("logs {name}")).stdout.contains("ready"));
        p.run(&format!("stop --time 30 {name}")).ok();
        assert_eq!(p.inspect(&name, "{{.State.ExitCode}}"), "11");
        p.remove(&name);
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn stop_kills_when_its_time_is_over() {
        let p = podman();
        let name = p.background("", "trap : TERM; while :; do sleep 1000; done");
        p.run(&format!("stop --time 1 {name}")).ok();
        assert_eq!(p.inspect(&name, "{{.State.ExitCode}} {{.State.Running}}"), "137 false");
        p.remove(&name);
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn kill_by_name_and_number() {
        let p = podman();
        for (signal, code) in [("USR1", "21"), ("12", "22"), ("SIGKILL", "137")] {
            let script =
                "trap \"exit 21\" USR1; trap \"exit 22\" USR2; echo ready; while :; do sleep 0.1; done";
            let name = p.background("", script);
            wait_until("ready", || p.run(&format!("logs {name}")).stdout.contains("ready"));
            p.run(&format!("kill --signal {signal} {name}")).ok();
            p.run(&format!("wait {name}")).prints(code);
            p.remove(&name);
        }
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn pause_stops_and_unpause_goes_on() {
        needs!(Cgroups);
        let p = podman();
        let name = p.background("", "i=0; while :; do i=$((i+1)); echo $i > /tmp/i; done");
        p.run(&format!("pause {name}")).ok();
        assert_eq!(p.inspect(&name, "{{.State.Status}} {{.State.Paused}}"), "paused true");
        p.run(&format!("exec {name} true")).fails();
        p.run(&format!("unpause {name}")).ok();
        assert_eq!(p.inspect(&name, "{{.State.Status}}"), "running");
        let count = || p.run(&format!("exec {name} cat /tmp/i")).text();
        let before = count();
        wait_until("it counts", || count() != before);
        p.remove(&name);
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn restart_is_a_new_process() {
        let p = podman();
        let name = p.detached("");
        let before = p.inspect(&name, "{{.State.Pid}}");
        p.run(&format!("restart --time 0 {name}")).ok();
        let after = p.inspect(&name, "{{.State.Pid}}");
        assert_ne!(before, after);
        p.run(&format!("exec {name} true")).ok();
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn restart_policy_starts_it_again() {
        let p = podman();
        let name = p.background("--restart on-failure:2", "echo try; exit 1");
        wait_until("three tries", || p.run(&format!("logs {name}")).stdout.matches("try").count() == 3);
        p.remove(&name);
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn forced_removal_leaves_nothing() {
        let p = podman();
        let name = p.detached("");
        let id = p.inspect(&name, "{{.Id}}");
        let pid = p.inspect(&name, "{{.State.Pid}}");
        p.run(&format!("rm --force --time 0 {name}")).ok();
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        wait_until("conmon is gone", || !is_running(&id));
        p.run(&format!("container exists {name}")).exits(1);
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn attach_shows_what_comes() {
        let p = podman();
        let name = p.background("--interactive", "read line; echo got $line");
        p.call(&format!("attach {name}")).stdin("this\n").run().ok().says("got this");
        p.remove(&name);
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn healthcheck() {
        let p = podman();
        let name =
            p.detached("--health-cmd 'test -e /tmp/well' --health-interval disable --health-retries 1");
        p.run(&format!("healthcheck run {name}")).exits(1);
        p.run(&format!("exec {name} touch /tmp/well")).ok();
        p.run(&format!("healthcheck run {name}")).ok();
        assert_eq!(p.inspect(&name, "{{.State.Health.Status}}"), "healthy");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn checkpoint_is_done_or_refused() {
        let p = podman();
        let name = p.detached("");
        // Neither a plain user nor the guest's kernel can; the container goes on.
        p.run(&format!("container checkpoint {name}")).fails();
        p.run(&format!("exec {name} true")).ok();
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn copying_into_a_running_container() {
        let p = podman();
        let name = p.detached("");
        let file = p.place.file("leaf", "green");
        p.run(&format!("cp {} {name}:/tmp/leaf", file.display())).ok();
        p.run(&format!("exec {name} cat /tmp/leaf")).prints("green");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn a_mount_into_a_running_container_by_its_pid_namespace() {
        let p = podman();
        let name = p.detached("");
        p.run(&format!("run --rm --pid container:{name} moss ps")).ok().says("sleep 1000");
    }
}

mod limits {
    use super::*;

    const SHOW: &str = "cd /sys/fs/cgroup; cat memory.max cpu.max pids.max";

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn of_run() {
        needs!(Cgroups);
        let out = podman().sh("--memory 48m --cpus 0.5 --pids-limit 33", SHOW);
        assert_eq!(lines(out), ["50331648", "50000 100000", "33"]);
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn of_run_less_common() {
        needs!(Cgroups);
        let options = "--memory 48m --memory-reservation 16m --memory-swap 64m --cpu-shares 512";
        let out = podman().sh(options, "cd /sys/fs/cgroup; cat memory.low memory.swap.max cpu.weight");
        let out = lines(out);
        assert_eq!(out[..2], ["16777216", "16777216"]);
        // The conversion has changed between versions: 20 by proportion, 59 by runc's newer curve.
        assert!(["20", "59"].contains(&&*out[2]), "{out:?}");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn update_of_a_running_container() {
        needs!(Cgroups);
        let p = podman();
        let name = p.detached("--memory 64m");
        p.run(&format!("update --memory 96m {name}")).ok();
        p.run(&format!("update --cpus 0.25 {name}")).ok();
        p.run(&format!("update --pids-limit 44 {name}")).ok();
        let out = lines(p.run(&format!("exec {name} sh -c '{SHOW}'")));
        assert_eq!(out, ["100663296", "25000 100000", "44"]);
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn unified_keys() {
        needs!(Cgroups);
        let out = podman().sh("--cgroup-conf memory.high=33554432", "cat /sys/fs/cgroup/memory.high");
        out.prints("33554432");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn want_of_memory_kills_and_is_told() {
        needs!(Cgroups);
        let p = podman();
        // systemd removes the scope when its last process is gone, and conmon may come too late to read in it: with
        // runc more often than not, with a cgroup below the scope hardly ever.
        let told = (0..5).any(|_| {
            let name = p.place.name();
            // tail keeps a line that never ends.
            let run = p.run(&format!("run --name {name} --memory 20m --memory-swap 20m moss tail /dev/zero"));
            run.exits(137);
            let told = p.inspect(&name, "{{.State.OOMKilled}}") == "true";
            p.remove(&name);
            told
        });
        assert!(told);
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn ulimit_and_oom_score() {
        podman().sh("--ulimit nofile=100:200", "ulimit -n; ulimit -Hn").prints("100\n200");
        podman().sh("--oom-score-adj 500", "cat /proc/self/oom_score_adj").prints("500");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn cgroups_disabled() {
        if runtime_name() == "runc" {
            return not_here("runc has no --cgroup-manager disabled, and Podman does not ask it");
        }
        let here = fs::read_to_string("/proc/self/cgroup").unwrap();
        podman().sh("--cgroups disabled --cgroupns host", "cat /proc/self/cgroup").prints(here.trim());
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn cgroups_no_conmon() {
        podman().sh("--cgroups no-conmon", "echo fine").prints("fine");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn cgroups_split_in_a_unit() {
        needs!(Cgroups, Systemd);
        let p = podman();
        let call = p.call("run --rm --cgroups split --cgroupns host moss cat /proc/self/cgroup");
        let unit = p.place.name();
        let user = if is_root() { "" } else { "--user" };
        let override_conf = p.place.dir.join("override.conf");
        let home = p.place.dir.join("home");
        let out = call
            .under(&format!(
                "systemd-run {user} --quiet --pipe --wait --collect --unit {unit} --property Delegate=yes \
                 --setenv CONTAINERS_CONF_OVERRIDE={} --setenv HOME={} --setenv PATH=/usr/sbin:/usr/bin",
                override_conf.display(),
                home.display()
            ))
            .run();
        out.ok().says(&format!("{unit}.service/libpod-payload-"));
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn cgroup_parent() {
        needs!(Cgroups, Systemd);
        let parent = if is_root() { "moss.slice" } else { "user-moss.slice" };
        let out = podman().sh(&format!("--cgroup-parent {parent} --cgroupns host"), "cat /proc/self/cgroup");
        out.ok().says(&format!("{parent}/libpod-"));
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn with_cgroupfs_as_the_manager() {
        if !is_root() {
            // A session's scope is not the user's to divide, so Podman itself asks for no cgroup there.
            return drop(podman().run("--cgroup-manager cgroupfs run --rm moss echo fine").prints("fine"));
        }
        podman()
            .run("--cgroup-manager cgroupfs run --rm --cgroupns host --memory 40m moss cat /proc/self/cgroup")
            .ok()
            .says("/libpod_parent/libpod-");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn cgroup_namespace_is_private() {
        needs!(Cgroups);
        podman().sh("", "cat /proc/self/cgroup").prints("0::/");
    }
}

mod isolation {
    use super::*;

    fn effective(options: &str) -> u64 {
        let line = podman().sh(options, "grep CapEff /proc/self/status").text();
        u64::from_str_radix(line.rsplit('\t').next().unwrap(), 16).unwrap()
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn capabilities_are_added_and_dropped() {
        const CHOWN: u64 = 1;
        const NET_RAW: u64 = 1 << 13;
        let base = effective("");
        assert_eq!(base & (CHOWN | NET_RAW), CHOWN);
        assert_eq!(effective("--cap-add NET_RAW"), base | NET_RAW);
        assert_eq!(effective("--cap-drop CHOWN"), base & !CHOWN);
        assert_eq!(effective("--cap-drop all"), 0);
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn privileged() {
        assert_ne!(effective("--privileged") & (1 << 21), 0);
        podman().sh("--privileged", "grep Seccomp: /proc/self/status").prints("Seccomp:\t0");
        podman().sh("--privileged", "mount -t tmpfs none /tmp && echo mounted").prints("mounted");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn seccomp_default_and_unconfined() {
        podman().sh("", "grep Seccomp: /proc/self/status").prints("Seccomp:\t2");
        podman()
            .sh("--security-opt seccomp=unconfined", "grep Seccomp: /proc/self/status")
            .prints("Seccomp:\t0");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn seccomp_profile_of_the_users() {
        let profile = podman().place.file(
            "profile.json",
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["mkdir", "mkdirat", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]}"#,
        );
        podman()
            .sh(&format!("--security-opt seccomp={}", profile.display()), "mkdir /tmp/a; echo $?")
            .prints("1")
            .says("Function not implemented");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn no_new_privileges() {
        podman()
            .sh("--security-opt no-new-privileges", "grep NoNewPrivs /proc/self/status")
            .prints("NoNewPrivs:\t1");
        podman().sh("", "grep NoNewPrivs /proc/self/status").prints("NoNewPrivs:\t0");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn masked_paths() {
        podman().sh("", "cat /proc/timer_list 2>/dev/null | wc -c; ls /sys/firmware | wc -l").prints("0\n0");
        podman().sh("", "echo 1 > /proc/sys/kernel/domainname").fails();
        let options = "--security-opt mask=/etc/group --security-opt unmask=/proc/timer_list";
        podman().sh(options, "wc -c < /etc/group").prints("0");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn read_only_root() {
        let p = podman();
        p.sh("--read-only", "touch /a 2>/dev/null || echo no; touch /tmp/a && echo yes").prints("no\nyes");
        p.sh("--read-only --read-only-tmpfs=false", "touch /tmp/a").exits(1).says("Read-only");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn device_of_the_hosts() {
        podman()
            .sh("--device /dev/null:/dev/moss:rw", "echo x > /dev/moss && test -c /dev/moss && echo there")
            .prints("there");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn sysctls() {
        let options = "--sysctl kernel.msgmax=9999 --sysctl net.ipv4.ip_default_ttl=77";
        podman()
            .sh(options, "cat /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_default_ttl")
            .prints("9999\n77");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn namespaces_of_the_hosts() {
        let p = podman();
        for (option, kind) in [("--pid host", "pid"), ("--ipc host", "ipc"), ("--uts host", "uts")] {
            if kind == "ipc" && !Path::new("/dev/mqueue").exists() {
                not_here("Podman binds the host's /dev/mqueue, which is not there");
                continue;
            }
            let shown = p.sh(option, &format!("readlink /proc/self/ns/{kind}")).text();
            assert_eq!(shown, namespace("self", kind), "{option}");
        }
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn kill_reaches_all_without_a_pid_namespace() {
        let p = podman();
        let name = p.background("--pid host", "sleep 98765 & sleep 98765");
        wait_until("sleep", || is_running("sleep 98765"));
        p.run(&format!("kill {name}")).ok();
        p.run(&format!("wait {name}")).prints("137");
        p.remove(&name);
        wait_until("all sleep is over", || !is_running("sleep 98765"));
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn ipc_is_shared_with_another_container() {
        let p = podman();
        let name = p.detached("--ipc shareable");
        let ours = p.run(&format!("exec {name} readlink /proc/1/ns/ipc")).text();
        p.sh(&format!("--ipc container:{name}"), "readlink /proc/self/ns/ipc").prints(&ours);
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn shm_size() {
        podman()
            .sh("--shm-size 5m", "df -k /dev/shm | tail -n 1 | tr -s \" \" | cut -d \" \" -f 2")
            .prints("5120");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn uid_map_of_the_users() {
        let out =
            podman().sh("--uidmap 0:1:500 --uidmap 500:501:500 --gidmap 0:1:1000", "cat /proc/self/uid_map");
        let out = lines(out);
        // Two ranges that meet are one.
        let ids: Vec<u32> =
            out.iter().map(|l| l.split_whitespace().last().unwrap().parse().unwrap()).collect();
        assert_eq!(ids.iter().sum::<u32>(), 1000, "{out:?}");
        assert_ne!(out[0].split_whitespace().nth(1), Some("0"), "{out:?}");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn umask_and_timezone() {
        podman().sh("--umask 0077", "umask").prints("0077");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn proc_options() {
        podman()
            .sh("--security-opt proc-opts=hidepid=2", "grep \" /proc proc\" /proc/self/mounts")
            .ok()
            .says("hidepid=");
    }
}

mod volumes {
    use super::*;

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn bound_directory() {
        let p = podman();
        let dir = p.place.scratch();
        p.sh(&format!("--volume {}:/mnt", dir.display()), "echo green > /mnt/leaf").ok();
        assert_eq!(fs::read_to_string(dir.join("leaf")).unwrap(), "green\n");
        p.sh(&format!("--volume {}:/mnt:ro", dir.display()), "cat /mnt/leaf; touch /mnt/no")
            .exits(1)
            .says("green");
        p.sh(&format!("--volume {}:/mnt:z", dir.display()), "cat /mnt/leaf").prints("green");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn bound_file_and_mount_syntax() {
        let p = podman();
        let file = p.place.file("leaf", "green");
        p.sh(&format!("--volume {}:/some/where:ro", file.display()), "cat /some/where").prints("green");
        p.sh(&format!("--mount type=bind,source={},target=/leaf,ro", file.display()), "cat /leaf")
            .prints("green");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn overlay_over_a_directory() {
        let p = podman();
        let dir = p.place.scratch();
        p.sh(&format!("--volume {}:/mnt:O", dir.display()), "echo x > /mnt/leaf && cat /mnt/leaf")
            .prints("x");
        assert!(!dir.join("leaf").exists());
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn named_volume_is_kept() {
        let p = podman();
        let name = p.place.name();
        p.sh(&format!("--volume {name}:/data"), "echo kept > /data/leaf").ok();
        p.sh(&format!("--volume {name}:/data"), "cat /data/leaf").prints("kept");
        p.run(&format!("volume rm {name}")).ok();
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn tmpfs_with_options() {
        podman()
            .sh(
                "--tmpfs /data:size=2m,mode=1770",
                "df -k /data | tail -n 1 | tr -s \" \" | cut -d \" \" -f 2; stat -c %a /data",
            )
            .prints("2048\n1770");
        // What the image has there is copied up.
        podman().sh("--tmpfs /etc:rw", "test -e /etc/passwd && echo there").prints("there");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn volume_given_to_the_containers_user() {
        let p = podman();
        let name = p.place.name();
        p.sh(&format!("--user 1000 --volume {name}:/data:U"), "touch /data/a && stat -c %u /data")
            .prints("1000");
        p.run(&format!("volume rm {name}")).ok();
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn recursive_and_propagated() {
        let p = podman();
        let dir = p.place.scratch();
        fs::create_dir(dir.join("sub")).unwrap();
        let options = format!("--volume {}:/mnt:rw,rslave,nodev,nosuid,noexec", dir.display());
        p.sh(&options, "grep \" /mnt \" /proc/self/mountinfo").ok().says("nosuid,nodev,noexec");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn image_as_a_volume() {
        podman()
            .sh("--mount type=image,source=moss,target=/image", "test -x /image/bin/busybox && echo it")
            .prints("it");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn devpts_and_mqueue() {
        podman()
            .sh("--mount type=devpts,target=/pts", "grep -c \" /pts devpts\" /proc/self/mounts")
            .prints("1");
        podman().sh("", "grep -c \" /dev/mqueue mqueue\" /proc/self/mounts").prints("1");
    }
}

mod network {
    use super::*;

    const NAMES: &str = "cd /sys/class/net; echo *";

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn none_and_host() {
        podman().sh("--network none", NAMES).prints("lo");
        let shown = podman().sh("--network host", "readlink /proc/self/ns/net").text();
        assert_eq!(shown, namespace("self", "net"));
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn another_containers() {
        let p = podman();
        let name = p.detached("--network none");
        let theirs = p.run(&format!("exec {name} readlink /proc/1/ns/net")).text();
        p.sh(&format!("--network container:{name}"), "readlink /proc/self/ns/net").prints(&theirs);
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn bridge_joins_two_containers() {
        needs!(Devices);
        let p = podman();
        let net = p.place.name();
        p.run(&format!("network create --disable-dns {net}")).ok();
        let server =
            p.background(&format!("--network {net}"), "mkdir /w; echo leaf > /w/index.html; httpd -f -h /w");
        let address =
            p.inspect(&server, &format!("{{{{(index .NetworkSettings.Networks \"{net}\").IPAddress}}}}"));
        let client = format!(
            "i=0; until wget -q -O - http://{address} || [ $i = 50 ]; do i=$((i+1)); sleep 0.1; done"
        );
        p.sh(&format!("--network {net}"), &client).prints("leaf");
        p.remove(&server);
        p.run(&format!("network rm {net}")).ok();
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn published_port_is_reached_from_the_host() {
        needs!(Podman5);
        let p = podman();
        let (net, port) = if is_root() { ("bridge", 18081) } else { ("pasta", 18082) };
        if is_root() {
            return not_here(
                "a port published by a bridge is a firewall rule, and the guest's kernel has no nftables for inet",
            );
        }
        let script = "mkdir /w; echo leaf > /w/index.html; httpd -f -h /w -p 80";
        let server = p.background(&format!("--network {net} --publish {port}:80"), script);
        p.run(&format!("port {server}")).ok().says(&format!("{port}"));
        let get = || Program::new("curl").words(&format!("-sS http://127.0.0.1:{port}")).run();
        wait_until("an answer", || get().stdout == "leaf\n");
        p.remove(&server);
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn hosts_and_resolver() {
        podman().sh("--network none --add-host leaf:10.1.2.3", "grep leaf /etc/hosts").ok().says("10.1.2.3");
        podman().sh("--network host --dns 10.9.8.7", "cat /etc/resolv.conf").ok().says("10.9.8.7");
    }
}

mod pods {
    use super::*;

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn containers_of_a_pod_share_namespaces() {
        let p = podman();
        let pod = p.place.name();
        p.run(&format!("pod create --name {pod} --hostname bog --network none --share ipc,net,uts,pid")).ok();
        let show = "hostname; for n in net ipc uts pid; do readlink /proc/self/ns/$n; done";
        let one = p.sh(&format!("--pod {pod}"), show).text();
        assert!(one.starts_with("bog\n"), "{one}");
        p.sh(&format!("--pod {pod}"), show).prints(&one);
        p.run(&format!("pod inspect --format '{{{{.State}}}} {{{{.NumContainers}}}}' {pod}")).ok().says(" 1");
        p.run(&format!("pod rm --force --time 0 {pod}")).ok();
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn pod_is_paused_stopped_and_started_as_one() {
        needs!(Cgroups);
        let p = podman();
        let pod = p.place.name();
        p.run(&format!("pod create --name {pod} --network none")).ok();
        let name = p.detached(&format!("--pod {pod}"));
        p.run(&format!("pod pause {pod}")).ok();
        assert_eq!(p.inspect(&name, "{{.State.Status}}"), "paused");
        p.run(&format!("pod unpause {pod}")).ok();
        p.run(&format!("pod stop --time 1 {pod}")).ok();
        assert_eq!(p.inspect(&name, "{{.State.Status}}"), "exited");
        p.run(&format!("pod start {pod}")).ok();
        assert_eq!(p.inspect(&name, "{{.State.Status}}"), "running");
        p.run(&format!("pod rm --force --time 0 {pod}")).ok();
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn pod_has_limits() {
        needs!(Cgroups);
        let p = podman();
        let pod = p.place.name();
        p.run(&format!("pod create --name {pod} --network none --memory 80m")).ok();
        let name = p.detached(&format!("--pod {pod}"));
        let pid = p.inspect(&name, "{{.State.Pid}}");
        let limits = cgroup_values(&pid, "memory.max");
        assert!(limits.iter().any(|l| l == "83886080"), "{limits:?}");
        p.run(&format!("pod rm --force --time 0 {pod}")).ok();
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn kube_play() {
        needs!(Cgroups);
        let p = podman();
        let pod = p.place.name();
        let yaml = p.place.file(
            "pod.yaml",
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {pod}\nspec:\n  restartPolicy: Never\n  containers:\n\
                 \x20 - name: leaf\n    image: localhost/moss:latest\n    command: [sh, -c, 'echo $COLOUR; sleep 1000']\n\
                 \x20   env:\n    - name: COLOUR\n      value: green\n    resources:\n      limits:\n        memory: 64Mi\n\
                 \x20   securityContext:\n      readOnlyRootFilesystem: true\n      capabilities:\n        drop: [ALL]\n"
            ),
        );
        p.run(&format!("kube play --network none {}", yaml.display())).ok();
        wait_until("its log", || p.run(&format!("logs {pod}-leaf")).stdout.contains("green"));
        p.run(&format!("exec {pod}-leaf cat /sys/fs/cgroup/memory.max")).prints("67108864");
        p.run(&format!("exec {pod}-leaf touch /a")).fails();
        p.run(&format!("kube down --force {}", yaml.display())).ok();
    }
}

mod systemd {
    use super::*;

    /// The guest's own systemd, as the first process of a container whose root is an overlay over the guest's.
    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn systemd_boots_in_a_container() {
        if !is_root() {
            return not_here(
                "the root that the guest has belongs to root, who is nobody in the user's namespace",
            );
        }
        let p = podman();
        let name = p.place.name();
        p.run(&format!(
            "run --detach --name {name} --systemd always --network none --env container=podman \
             --rootfs /:O /usr/lib/systemd/systemd --unit basic.target"
        ))
        .ok();
        let state = || p.run(&format!("exec {name} systemctl is-active basic.target")).stdout;
        wait_until("basic.target", || state().trim() == "active");
        p.run(&format!("exec {name} systemd-run --quiet --wait --pipe echo from-a-unit"))
            .ok()
            .says("from-a-unit");
        p.run(&format!("stop --time 20 {name}")).ok();
        assert_ne!(p.inspect(&name, "{{.State.ExitCode}}"), "137");
        p.remove(&name);
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn systemd_mode_gives_a_writable_cgroup_and_run() {
        needs!(Cgroups);
        let script = "mkdir /sys/fs/cgroup/moss && touch /run/a /run/lock/a && echo $container";
        podman().sh("--systemd always", script).prints("podman");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn quadlet_unit_is_started_when_the_container_says_so() {
        needs!(Cgroups, Systemd);
        let p = podman();
        let name = p.place.name();
        let user = if is_root() { "" } else { "--user" };
        let scope = if is_root() { "/run".to_owned() } else { std::env::var("XDG_RUNTIME_DIR").unwrap() };
        let dir = Path::new(&scope).join("containers/systemd");
        fs::create_dir_all(&dir).unwrap();
        let unit = dir.join(format!("{name}.container"));
        let runtime = if runtime_name() == "bryo" { "bryo" } else { runtime().to_str().unwrap() };
        let text = format!(
            "[Container]\nImage=localhost/moss:latest\nPull=never\nContainerName={name}\nNetwork=none\nNotify=true\n\
             Volume=/usr:/usr:ro\nGlobalArgs={} --runtime {runtime}\n\
             Exec=sh -c 'trap \"exit 0\" TERM; sleep 1; touch /tmp/told; systemd-notify --ready; sleep 1000 & wait'\n\
             [Service]\nEnvironment=CONTAINERS_CONF_OVERRIDE={} HOME={}\nTimeoutStartSec=60\n",
            p.global(),
            p.place.dir.join("override.conf").display(),
            p.place.dir.join("home").display(),
        );
        fs::write(&unit, text).unwrap();
        let systemctl = |line: &str| Program::new("systemctl").words(&format!("{user} {line}")).run();
        systemctl("daemon-reload").ok();
        let started = systemctl(&format!("start {name}.service"));
        if !started.status.success() {
            let log =
                Program::new("journalctl").words(&format!("{user} --no-pager -n 30 -u {name}.service")).run();
            panic!("{started:?}\n{}", log.stdout);
        }
        p.run(&format!("exec {name} test -e /tmp/told")).ok();
        systemctl(&format!("is-active {name}.service")).prints("active");
        systemctl(&format!("stop {name}.service")).ok();
        p.run(&format!("container exists {name}")).exits(1);
        fs::remove_file(unit).unwrap();
        systemctl("daemon-reload").ok();
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn notify_is_sent_by_conmon_or_by_the_container() {
        let p = podman();
        for (who, script) in [("conmon", "sleep 1000"), ("container", "systemd-notify --ready; sleep 1000")] {
            let path = p.place.scratch().join("notify");
            let socket = UnixDatagram::bind(&path).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let name = p.place.name();
            let options = format!("--detach --sdnotify {who} --volume /usr:/usr:ro --name {name}");
            p.call(&format!("run {options} moss sh -c '{script}'")).env("NOTIFY_SOCKET", &path).run().ok();
            wait_until("it is ready", || {
                let mut message = [0; 4096];
                let length = socket.recv(&mut message).unwrap();
                String::from_utf8_lossy(&message[..length]).contains("READY=1")
            });
            p.remove(&name);
        }
    }
}

/// Bryo in a container of Podman's.
mod nested {
    use super::*;
    use crate::lab::{Inner, proposed};

    /// The same container, with and without what bryo itself asks for.
    fn needs_what_doctor_proposes(as_whom: &str) {
        fails_with!("runc" | "crun", "it is bryo that is run inside");
        let p = podman();
        let inner = Inner::new(&p.place);
        let run = |options: &str, command: &str| {
            p.run(&format!("run --rm {as_whom} {options} {} moss {command}", inner.volumes))
        };
        run("", "sh /inner/run").fails().says("PROC-MASKED").says("podman --security-opt unmask=ALL");
        let options = proposed(run("", "/bryo doctor --for nested --json"), "podman");
        assert!(options.contains("unmask=ALL") && !options.contains("privileged"), "{options}");
        run(&options, "sh /inner/run").prints("uid 0 pid 1");
        // And then there is nothing left to propose, but for what only helpers of networks and overlays want.
        let rest = proposed(run(&options, "/bryo doctor --for nested --json"), "podman");
        assert!(!rest.contains("--security-opt") && !rest.contains("--cap-add"), "{rest}");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn runs_with_the_settings_that_doctor_proposes() {
        needs_what_doctor_proposes("");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn runs_as_an_unknown_user_who_may_nothing() {
        needs_what_doctor_proposes(
            "--user 1234:0 --cap-drop ALL --security-opt no-new-privileges --read-only --tmpfs /tmp",
        );
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn runs_in_a_masked_proc_for_who_would_share_it() {
        fails_with!("runc" | "crun", "it is bryo that is run inside");
        let p = podman();
        let inner = Inner::new(&p.place);
        // Podman's filter forbids a hostname alone.
        let options = format!("--security-opt seccomp=unconfined {}", inner.volumes);
        let ran = p.run(&format!("run --rm {options} moss sh /inner/run --degrade=proc")).ok();
        assert!(ran.stdout.starts_with("uid 0 pid ") && !ran.stdout.contains("pid 1\n"), "{ran:?}");
        ran.says("warning: PROC-MASKED");
    }
}

mod rootless {
    use super::*;

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn keep_id() {
        let p = podman();
        let uid = nix::unistd::getuid().as_raw();
        let dir = p.place.scratch();
        p.sh(&format!("--userns keep-id --volume {}:/mnt", dir.display()), "id -u; touch /mnt/mine")
            .prints(&uid.to_string());
        use std::os::unix::fs::MetadataExt;
        assert_eq!(fs::metadata(dir.join("mine")).unwrap().uid(), uid);
        p.sh("--userns keep-id:uid=7,gid=8", "id -u; id -g").prints("7\n8");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn a_volume_that_is_idmapped() {
        fails_with!("runc" | "crun", "they have other words, or none");
        let p = podman();
        let map = "--uidmap 0:100:1000 --gidmap 0:100:1000";
        // The machine's file systems are its root's, and only one that Podman has mounted itself is Podman's.
        let dir = p.place.scratch();
        let options = format!("{map} --volume {}:/mnt:idmap", dir.display());
        p.sh(&options, "true").fails().says("MNT-IDMAP").says("operation not permitted; fix: ");
        let volume = p.place.name();
        // With an owner of its own it is not given to the root of the container that has it first (Podman 4).
        let owned = "--opt type=tmpfs --opt device=tmpfs --opt o=uid=7,gid=8";
        p.run(&format!("volume create {owned} {volume}")).ok();
        p.sh(&format!("{map} --volume {volume}:/mnt:idmap"), "stat -c %u:%g /mnt").prints("7:8");
        p.run(&format!("volume rm {volume}")).ok();
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn nomap() {
        let out = lines(podman().sh("--userns nomap", "cat /proc/self/uid_map"));
        assert!(out.iter().all(|l| !l.ends_with(" 1000 1")), "{out:?}");
        podman().sh("--userns nomap", "id -u").prints("0");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn userns_host_and_auto() {
        podman().sh("--userns host", "id -u").prints("0");
        let out = lines(podman().sh("--userns auto:size=1024", "cat /proc/self/uid_map"));
        assert!(out[0].ends_with(" 1024"), "{out:?}");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn keep_groups() {
        fails_with!("runc", "keep-groups is an annotation of crun's");
        let p = podman();
        // A group of the user's that the container's map does not have, seen as nobody's.
        let groups = Program::new("id").words("-G").run().text();
        let out = p.sh("--group-add keep-groups", "id -G").text();
        assert!(groups.split(' ').count() < 2 || out.contains("65534"), "{groups}: {out}");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn pasta() {
        needs!(Podman5);
        podman().sh("--network pasta", "test -e /sys/class/net/lo && echo up").prints("up");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn slirp4netns() {
        needs!(Devices);
        podman().sh("--network slirp4netns", "cd /sys/class/net; echo *").ok().says("tap0");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn slirp4netns_published_port() {
        needs!(Devices);
        let p = podman();
        let script = "mkdir /w; echo leaf > /w/index.html; httpd -f -h /w -p 80";
        let server = p.background("--network slirp4netns --publish 18084:80", script);
        let get = || Program::new("curl").words("-sS http://127.0.0.1:18084").run();
        wait_until("an answer", || get().stdout == "leaf\n");
        p.remove(&server);
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn device_of_the_users() {
        needs!(Devices);
        podman().sh("--device /dev/fuse", "test -c /dev/fuse && : < /dev/fuse; echo $?").prints("0");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn root_inside_is_the_user_outside() {
        let p = podman();
        let name = p.detached("");
        let pid = p.inspect(&name, "{{.State.Pid}}");
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let uid = nix::unistd::getuid();
        assert!(status.contains(&format!("Uid:\t{uid}\t{uid}")), "{status}");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn with_vfs_and_with_fuse_overlayfs() {
        needs!(Devices);
        let p = podman();
        for options in ["--storage-driver vfs", "--storage-opt overlay.mount_program=/usr/bin/fuse-overlayfs"]
        {
            let dir = p.place.scratch();
            let places = format!("--root {0}/s --runroot {0}/r --tmpdir {0}/t {options}", dir.display());
            let call = |line: &str| p.call("").words(&places).words(line);
            call("import").arg(&p.place.dir.join("moss.tar")).words("moss").run().ok();
            call("run --rm moss sh -c 'touch /a && echo fine'").run().prints("fine");
        }
    }
}

mod rootful {
    use super::*;

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn userns_auto() {
        // Podman takes the ranges of the user `containers`.
        for file in ["/etc/subuid", "/etc/subgid"] {
            let text = fs::read_to_string(file).unwrap();
            if !text.contains("containers:") {
                fs::write(file, text + "containers:2147483647:2147483648\n").unwrap();
            }
        }
        let out = lines(podman().sh("--userns auto:size=2048", "cat /proc/self/uid_map"));
        assert!(out[0].starts_with("0 ") && out[0].ends_with(" 2048"), "{out:?}");
        let first = |out: Vec<String>| out[0].split_whitespace().nth(1).unwrap().to_owned();
        assert_ne!(first(out), "0");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn keep_id_of_root() {
        podman().sh("--userns keep-id", "id -u").ok();
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn user_namespace_with_a_volume_that_is_idmapped() {
        fails_with!("runc", "runc 1.1 takes the word idmap, and maps nothing");
        let p = podman();
        let dir = p.place.scratch();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(dir.join("leaf"), "green").unwrap();
        let map = "--uidmap 0:200000:1000 --gidmap 0:200000:1000";
        p.sh(&format!("{map} --volume {}:/mnt", dir.display()), "stat -c %u /mnt/leaf").prints("65534");
        p.sh(&format!("{map} --volume {}:/mnt:idmap", dir.display()), "stat -c %u /mnt/leaf").prints("0");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn device_rules_are_enforced() {
        let script = "mknod /tmp/full c 1 7; echo x > /tmp/full";
        // /dev/full is everybody's, /dev/port (1:4) nobody's but by a rule.
        podman().sh("--cap-add MKNOD", script).exits(1).says("No space left on device");
        let port = "mknod /tmp/mem c 1 4; : < /tmp/mem && echo open";
        podman().sh("--cap-add MKNOD", port).fails().says("Operation not permitted");
        podman()
            .sh("--cap-add MKNOD --cap-add SYS_RAWIO --device-cgroup-rule 'c 1:4 rmw'", port)
            .says_not("not permitted");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn privileged_sees_the_hosts_devices() {
        podman()
            .sh("--privileged", "test -c /dev/net/tun && test -b /dev/ubda && echo there")
            .prints("there");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn bridge_by_default() {
        podman().sh("--network bridge", "cd /sys/class/net; echo *").ok().says("eth0");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn io_weight_and_device_limits() {
        if !fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap().contains("io") {
            return not_here("no io controller");
        }
        podman()
            .sh("--device-write-bps /dev/ubda:1mb", "cat /sys/fs/cgroup/io.max")
            .ok()
            .says("wbps=1048576");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn process_priority_of_root() {
        podman().sh("--ulimit nofile=1048576:1048576", "ulimit -n").prints("1048576");
    }

    #[test]
    #[ignore = "needs podman: scripts/test runs it in the guest"]
    fn systemd_properties_by_annotation() {
        let p = podman();
        let name = p.detached("--annotation org.systemd.property.RuntimeMaxUSec='uint64 900000000'");
        let id = p.inspect(&name, "{{.Id}}");
        Program::new("systemctl")
            .words(&format!("show --property RuntimeMaxUSec --value libpod-{id}.scope"))
            .run()
            .prints("15min");
    }
}
