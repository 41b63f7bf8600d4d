//! containerd by `ctr`: the bare shim, and nothing that an engine above would set for a container.

use std::fs;
use std::path::Path;
use std::process::Child;
use std::sync::LazyLock;

use crate::lab::{
    Place, Program, Ran, TERMINAL_SIZE, cgroup_values, is_root, is_running, runtime, scripts, wait_until,
};

struct Containerd {
    place: Place,
    /// Ended by the janitor.
    _daemon: Child,
}

const IMAGE: &str = "docker.io/library/moss:latest";

fn containerd() -> &'static Containerd {
    static CONTAINERD: LazyLock<Containerd> = LazyLock::new(Containerd::start);
    &CONTAINERD
}

/// What dockerd-rootless.sh does for dockerd, for containerd: /run is the namespace's own, and what is root's there
/// makes room.
const ROOTLESSKIT: &str = "rootlesskit --net slirp4netns --mtu 65520 --disable-host-loopback --copy-up /etc --copy-up /run \
                           --propagation rslave";

impl Containerd {
    fn start() -> Containerd {
        let place = Place::new("containerd", "kill \"$(cat $DIR/pid)\"; sleep 1");
        let at = |name: &str| place.dir.join(name).display().to_string();
        let config = format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\n  address = \"{}\"\n",
            at("root"),
            at("state"),
            at("sock")
        );
        fs::write(at("config.toml"), config).unwrap();
        let mut call = Program::new("containerd").words(&format!("--config {}", at("config.toml")));
        if !is_root() {
            call = call
                .under("sh -c 'rm -f /run/containerd; exec \"$@\"' sh")
                .under(&format!("{ROOTLESSKIT} --state-dir {}", at("rootlesskit")))
                // A login session's cgroup is not the user's, and runtimes cannot exec from there.
                .under("systemd-run --user --scope --quiet");
        }
        let daemon =
            call.in_shell(&format!("echo $$ > {}; exec \"$@\"", at("pid"))).daemon(Path::new(&at("log")));
        let containerd = Containerd { place, _daemon: daemon };
        let up = || containerd.namespaces().is_some() && containerd.run("version").status.success();
        wait_until("containerd", up);
        containerd.import();
        containerd
    }

    /// What enters the namespaces of a plain user's containerd.
    fn namespaces(&self) -> Option<String> {
        if is_root() {
            return Some(String::new());
        }
        let pid = fs::read_to_string(self.place.dir.join("rootlesskit/child_pid")).ok()?;
        Some(format!("nsenter --user --preserve-credentials --mount --net --target {}", pid.trim()))
    }

    /// Some program beside containerd.
    fn beside(&self, line: &str) -> Program {
        Program::new("env").words(line).under(&self.namespaces().unwrap())
    }

    /// ctr takes images of OCI's or Docker's form only.
    fn import(&self) {
        let dir = self.place.scratch();
        let tar = self.place.image();
        let digest = Program::new("sha256sum").arg(&tar).run().text();
        let digest = digest.split(' ').next().unwrap();
        fs::rename(&tar, dir.join("layer.tar")).unwrap();
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{"Cmd":["sh"],"Env":["PATH=/bin"]}},
                "rootfs":{{"type":"layers","diff_ids":["sha256:{digest}"]}}}}"#
        );
        fs::write(dir.join("config.json"), config).unwrap();
        let manifest =
            format!(r#"[{{"Config":"config.json","RepoTags":["{IMAGE}"],"Layers":["layer.tar"]}}]"#);
        fs::write(dir.join("manifest.json"), manifest).unwrap();
        let image = self.place.dir.join("image.tar");
        Program::new("tar")
            .words("-cf")
            .arg(&image)
            .words("-C")
            .arg(&dir)
            .words("manifest.json config.json layer.tar")
            .run()
            .ok();
        self.call("images import").arg(&image).run().ok();
    }

    fn call(&self, line: &str) -> Program {
        self.beside(&format!("ctr --address {}/sock {line}", self.place.dir.display()))
    }

    fn run(&self, line: &str) -> Ran {
        self.call(line).run()
    }

    /// `ctr run OPTIONS IMAGE NAME`, with the runtime under test. A plain user's container is in a scope, as the
    /// cgroup that ctr asks for else, below /default, is not for plain users.
    fn start_call(&self, options: &str, name: &str) -> Program {
        let scope = format!("--runc-systemd-cgroup --cgroup user.slice:ctr:{name}-{}", std::process::id());
        let cgroup = if is_root() || options.contains("--cgroup") { "" } else { &scope };
        let options = format!("{cgroup} {options}");
        self.call(&format!("run --runc-binary {} {options} {IMAGE} {name}", runtime().display()))
    }

    fn sh(&self, options: &str, script: &str) -> Ran {
        let name = self.place.name();
        self.start_call(&format!("--rm {options}"), &name).words(&format!("sh -c '{script}'")).run()
    }

    fn detached(&self, options: &str, script: &str) -> String {
        let name = self.place.name();
        self.start_call(&format!("--detach {options}"), &name).words(&format!("sh -c '{script}'")).run().ok();
        name
    }

    fn exec(&self, name: &str, words: &str) -> Ran {
        let id = self.place.name();
        self.run(&format!("tasks exec --exec-id {id} {name} {words}"))
    }

    /// The second and third column of `ctr tasks list`.
    fn task(&self, name: &str) -> Option<(String, String)> {
        let list = self.run("tasks list").text();
        let line = list.lines().find(|l| l.split_whitespace().next() == Some(name))?;
        let mut words = line.split_whitespace().skip(1);
        Some((words.next()?.to_owned(), words.next()?.to_owned()))
    }

    fn pid(&self, name: &str) -> String {
        self.task(name).unwrap().0
    }

    fn status(&self, name: &str) -> String {
        self.task(name).map_or("gone".to_owned(), |(_, status)| status)
    }

    fn remove(&self, name: &str) {
        self.run(&format!("tasks delete --force {name}")).ok();
        self.run(&format!("containers delete {name}")).ok();
    }
}

const SLEEP: &str = "trap \"exit 0\" TERM; sleep 1000 & wait";

#[test]
#[ignore = "needs containerd: scripts/test runs it in the guest"]
fn run_shows_output_and_exit_code() {
    containerd().sh("", "echo out; echo err >&2; exit 42").exits(42).says("out").says("err");
}

#[test]
#[ignore = "needs containerd: scripts/test runs it in the guest"]
fn run_with_systemd_cgroup() {
    let c = containerd();
    let leaf = format!("{}-{}", c.place.name(), std::process::id());
    let slice = if is_root() { "moss.slice" } else { "user-moss.slice" };
    let cgroup = format!("--runc-systemd-cgroup --cgroup {slice}:ctr:{leaf}");
    let name = c.detached(&format!("{cgroup} --memory-limit 50331648"), SLEEP);
    assert!(cgroup_values(&c.pid(&name), "memory.max").contains(&"50331648".to_owned()));
    let user = if is_root() { "" } else { "--user" };
    Program::new("systemctl").words(&format!("{user} is-active ctr-{leaf}.scope")).run().prints("active");
    c.remove(&name);
}

#[test]
#[ignore = "needs containerd: scripts/test runs it in the guest"]
fn run_on_a_terminal() {
    let c = containerd();
    let name = c.place.name();
    c.start_call("--rm --tty", &name)
        .words(&format!("sh -c '{TERMINAL_SIZE}; exit 7'"))
        .on_terminal(33, 99, "")
        .run()
        .exits(7)
        .says("33 99");
}

#[test]
#[ignore = "needs containerd: scripts/test runs it in the guest"]
fn exec_and_its_exit_code() {
    let c = containerd();
    let name = c.detached("--env LEAF=green", SLEEP);
    c.exec(&name, "sh -c 'echo $LEAF; exit 9'").exits(9).says("green");
    let id = c.place.name();
    c.run(&format!("tasks exec --exec-id {id} --cwd /tmp --user 1000 {name} sh -c 'echo $(id -u) $PWD'"))
        .prints("1000 /tmp");
    c.remove(&name);
}

#[test]
#[ignore = "needs containerd: scripts/test runs it in the guest"]
fn exec_on_a_terminal() {
    let c = containerd();
    let name = c.detached("", SLEEP);
    let id = c.place.name();
    c.call(&format!("tasks exec --tty --exec-id {id} {name} sh -c '{TERMINAL_SIZE}'"))
        .on_terminal(31, 97, "")
        .run()
        .ok()
        .says("31 97");
    c.remove(&name);
}

#[test]
#[ignore = "needs containerd: scripts/test runs it in the guest"]
fn kill_by_name_and_number() {
    let c = containerd();
    for signal in ["TERM", "9"] {
        let name = c.detached("", SLEEP);
        c.run(&format!("tasks kill --signal {signal} {name}")).ok();
        wait_until("it has stopped", || c.status(&name) == "STOPPED");
        c.remove(&name);
    }
}

#[test]
#[ignore = "needs containerd: scripts/test runs it in the guest"]
fn kill_of_all() {
    let c = containerd();
    let name = c.detached("", "sleep 43210 & sleep 43210");
    wait_until("sleep", || is_running("sleep 43210"));
    c.run(&format!("tasks kill --all --signal KILL {name}")).ok();
    wait_until("it has stopped", || c.status(&name) == "STOPPED" && !is_running("sleep 43210"));
    c.remove(&name);
}

#[test]
#[ignore = "needs containerd: scripts/test runs it in the guest"]
fn pause_and_resume() {
    let c = containerd();
    let name = c.detached("", SLEEP);
    c.run(&format!("tasks pause {name}")).ok();
    assert_eq!(c.status(&name), "PAUSED");
    c.run(&format!("tasks resume {name}")).ok();
    assert_eq!(c.status(&name), "RUNNING");
    c.remove(&name);
}

#[test]
#[ignore = "needs containerd: scripts/test runs it in the guest"]
fn ps_and_metrics() {
    let c = containerd();
    let name = c.detached("", SLEEP);
    wait_until("two processes", || c.run(&format!("tasks ps {name}")).text().lines().count() == 3);
    c.run(&format!("tasks metrics {name}")).ok().says("memory");
    c.remove(&name);
}

#[test]
#[ignore = "needs containerd: scripts/test runs it in the guest"]
fn command_that_does_not_exist() {
    let c = containerd();
    let name = c.place.name();
    c.start_call("--rm", &name).words("no-such-command").run().fails().says("no-such-command");
    assert_eq!(c.status(&name), "gone");
    wait_until("its shim is gone", || !is_running(&format!("-id {name} ")));
}

#[test]
#[ignore = "needs containerd: scripts/test runs it in the guest"]
fn mounts_and_read_only_root() {
    let c = containerd();
    let dir = c.place.scratch();
    let mount = format!("--mount type=bind,src={},dst=/mnt,options=rbind:rw", dir.display());
    c.sh(&format!("{mount} --read-only"), "echo x > /mnt/leaf; touch /a").exits(1).says("Read-only");
    assert_eq!(fs::read_to_string(dir.join("leaf")).unwrap(), "x\n");
}

#[test]
#[ignore = "needs containerd: scripts/test runs it in the guest"]
fn seccomp_capabilities_and_privileged() {
    let c = containerd();
    let show = "grep Seccomp: /proc/self/status; grep CapEff /proc/self/status";
    c.sh("--seccomp --cap-drop CAP_CHOWN", show).ok().says("Seccomp:\t2");
    c.sh("--privileged", show).ok().says("Seccomp:\t0");
}

#[test]
#[ignore = "needs containerd: scripts/test runs it in the guest"]
fn host_network_hostname_and_user() {
    let c = containerd();
    let shown = c.sh("--net-host --user 1000", "id -u; readlink /proc/self/ns/net").text();
    let ours = c.beside("readlink /proc/self/ns/net").run().text();
    assert_eq!(shown, format!("1000\n{ours}"));
}

#[test]
#[ignore = "needs containerd: scripts/test runs it in the guest"]
fn checkpoint_is_done_or_refused() {
    let c = containerd();
    let name = c.detached("", SLEEP);
    c.run(&format!("tasks checkpoint {name}")).fails();
    c.exec(&name, "true").ok();
    c.remove(&name);
}

mod rootful {
    use super::*;

    #[test]
    #[ignore = "needs containerd: scripts/test runs it in the guest"]
    fn run_with_limits_in_a_plain_cgroup() {
        let c = containerd();
        let name = c.detached("--memory-limit 50331648 --cpus 0.5", SLEEP);
        let pid = c.pid(&name);
        assert_eq!(cgroup_values(&pid, "memory.max")[0], "50331648");
        assert_eq!(cgroup_values(&pid, "cpu.max")[0], "50000 100000");
        c.remove(&name);
    }

    #[test]
    #[ignore = "needs containerd: scripts/test runs it in the guest"]
    fn the_printed_configuration_is_containerds() {
        let c = containerd();
        let bryo = c.place.scratch().join("bryo");
        fs::copy(runtime(), &bryo).unwrap();
        let out = Program::new("sh")
            .arg(&scripts().join("engines"))
            .words(&format!("--print --binary {} containerd", bryo.display()))
            .run()
            .text();
        // The part for 1.x, which is what Debian has.
        let part = out.split("[plugins.'io.containerd.cri.v1.runtime'").next().unwrap();
        let file = c.place.file("config.toml", format!("version = 2\n{part}"));
        Program::new("containerd")
            .words(&format!("--config {} config dump", file.display()))
            .run()
            .ok()
            .says(&format!("BinaryName = \"{}\"", bryo.display()));
    }
}
