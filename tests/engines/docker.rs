//! Docker: a daemon of the suite's own, by `dockerd-rootless.sh` for a plain user. The runtime is called by
//! containerd's shim, and nearly every container has a hook that sets its network up.

use std::fs;
use std::path::Path;
use std::process::Child;
use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::lab::{
    Inner, Place, Program, Ran, TERMINAL_SIZE, configure, fails_with, is_root, is_running, namespace,
    not_here, proposed,
};
use crate::lab::{runtime, runtime_name, wait_until};

struct Docker {
    place: Place,
    /// Ended by the janitor.
    _daemon: Child,
}

fn docker() -> &'static Docker {
    static DOCKER: LazyLock<Docker> = LazyLock::new(Docker::start);
    &DOCKER
}

/// What `scripts/engines` made for the daemon, and what makes it quick: a firewall is not what is tested here, and
/// without one there is no name server on a bridge either.
fn daemon_json(place: &Place) -> Value {
    let mut config = json!({ "runtimes": { runtime_name(): { "path": runtime() } } });
    if runtime_name() == "bryo" {
        configure("docker", &place.dir.join("home"));
        let etc = if is_root() { "/etc".into() } else { place.dir.join("home/.config") };
        config = serde_json::from_str(&fs::read_to_string(etc.join("docker/daemon.json")).unwrap()).unwrap();
    }
    if runtime_name() == "runc" {
        config["runtimes"] = json!({});
    }
    config["default-runtime"] = runtime_name().into();
    config["iptables"] = false.into();
    config["ip6tables"] = false.into();
    config["experimental"] = true.into();
    config
}

impl Docker {
    fn start() -> Docker {
        let place = Place::new(
            "docker",
            "docker -H unix://$DIR/docker.sock ps -aq | xargs -r docker -H unix://$DIR/docker.sock rm -f\n\
             kill \"$(cat $DIR/daemon.pid)\"; for i in $(seq 100); do [ -e $DIR/docker.pid ] || break; sleep 0.1; done",
        );
        let at = |name: &str| place.dir.join(name).display().to_string();
        fs::write(at("daemon.json"), daemon_json(&place).to_string()).unwrap();
        let daemon = format!(
            "--config-file {} --data-root {} --exec-root {} --pidfile {} --host unix://{}",
            at("daemon.json"),
            at("data"),
            at("exec"),
            at("docker.pid"),
            at("docker.sock"),
        );
        let call = if is_root() {
            // The machine's own containerd would be used if it ran.
            Program::new("systemctl").words("stop docker.socket docker.service containerd.service").run();
            Program::new("dockerd").words(&daemon)
        } else {
            // As its setup tool has it, below the user's systemd: from a session's scope crun cannot exec.
            Program::new("systemd-run")
                .words("--user --scope --quiet sh")
                .words("/usr/share/docker.io/contrib/dockerd-rootless.sh")
                .words(&daemon)
                .env("DOCKERD_ROOTLESS_ROOTLESSKIT_NET", "slirp4netns")
                .env("DOCKERD_ROOTLESS_ROOTLESSKIT_STATE_DIR", at("rootlesskit"))
                .env("HOME", place.dir.join("home"))
        };
        fs::create_dir_all(at("home")).unwrap();
        let daemon = call
            .in_shell(&format!("echo $$ > {}; exec \"$@\"", at("daemon.pid")))
            .daemon(Path::new(&at("log")));
        let docker = Docker { place, _daemon: daemon };
        let mut up = false;
        for _ in 0..300 {
            up = docker.run("version").status.success();
            if up {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        assert!(up, "{}", fs::read_to_string(docker.place.dir.join("log")).unwrap());
        docker.call("import").arg(&docker.place.image()).words("moss").run().ok();
        docker
    }

    fn call(&self, line: &str) -> Program {
        Program::new("docker")
            .words(line)
            .env("DOCKER_HOST", format!("unix://{}/docker.sock", self.place.dir.display()))
            .env("HOME", self.place.dir.join("home"))
            .env("DOCKER_BUILDKIT", "0")
    }

    fn run(&self, line: &str) -> Ran {
        self.call(line).run()
    }

    /// `docker run --rm OPTIONS moss sh -c SCRIPT`, without a network of its own where it asks for none.
    fn sh(&self, options: &str, script: &str) -> Ran {
        assert!(!script.contains('\''), "{script}");
        self.run(&format!("run --rm {options} moss sh -c '{script}'"))
    }

    fn detached(&self, options: &str) -> String {
        self.background(
            &format!("--network none {options}"),
            "trap \"exit 0\" TERM; echo ready; sleep 1000 & wait",
        )
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
        self.run(&format!("rm --force {name}")).ok();
    }
}

const NONE: &str = "--network none";

#[test]
#[ignore = "needs docker: scripts/test runs it in the guest"]
fn run_shows_output_and_exit_code() {
    docker().sh("", "echo out; echo err >&2; exit 42").exits(42).says("out").says("err");
}

#[test]
#[ignore = "needs docker: scripts/test runs it in the guest"]
fn the_runtime_under_test_is_the_one_that_runs() {
    let d = docker();
    d.run("info --format '{{.DefaultRuntime}}'").prints(runtime_name());
    let name = d.detached("");
    assert_eq!(
        d.inspect(&name, "{{.HostConfig.Runtime}} {{.State.Status}}"),
        format!("{} running", runtime_name())
    );
    assert!(d.inspect(&name, "{{.State.Pid}}").parse::<i32>().unwrap() > 1);
}

#[test]
#[ignore = "needs docker: scripts/test runs it in the guest"]
fn the_limits_of_the_host_are_known() {
    docker()
        .run("info --format '{{.CgroupVersion}} {{.CgroupDriver}} {{.PidsLimit}}'")
        .prints("2 systemd true");
}

#[test]
#[ignore = "needs docker: scripts/test runs it in the guest"]
fn command_that_does_not_exist_is_127() {
    crate::lab::fails_with!("crun", "dockerd looks for runc's words, and crun has others: 125");
    docker().run("run --rm --network none moss no-such-command").exits(127);
    docker().run("run --rm --network none moss /no/such/command").exits(127);
}

#[test]
#[ignore = "needs docker: scripts/test runs it in the guest"]
fn command_that_is_no_program_is_126() {
    crate::lab::fails_with!("crun", "dockerd looks for runc's words, and crun has others: 125");
    docker().run("run --rm --network none moss /bin/text").exits(126);
}

#[test]
#[ignore = "needs docker: scripts/test runs it in the guest"]
fn stdin_and_terminal() {
    let d = docker();
    d.call("run --rm --network none --interactive moss tr a-z A-Z").stdin("moss\n").run().prints("MOSS");
    d.call(&format!("run --rm --network none --interactive --tty moss sh -c '{TERMINAL_SIZE}; exit 7'"))
        .on_terminal(33, 99, "")
        .run()
        .exits(7)
        .says("33 99");
}

#[test]
#[ignore = "needs docker: scripts/test runs it in the guest"]
fn environment_user_directory_and_hostname() {
    let options = "--network none --env LEAF=green --user 1000:1000 --workdir /tmp --hostname bog";
    docker().sh(options, "echo $LEAF $(id -u):$(id -g) $PWD $(hostname)").prints("green 1000:1000 /tmp bog");
}

#[test]
#[ignore = "needs docker: scripts/test runs it in the guest"]
fn logs_wait_and_exit_code() {
    let d = docker();
    let name = d.background(NONE, "echo one; echo two >&2; exit 6");
    d.run(&format!("wait {name}")).prints("6");
    d.run(&format!("logs {name}")).prints("one").says("two");
    assert_eq!(d.inspect(&name, "{{.State.ExitCode}} {{.State.Status}}"), "6 exited");
    d.remove(&name);
}

#[test]
#[ignore = "needs docker: scripts/test runs it in the guest"]
fn exec_runs_in_the_container() {
    let d = docker();
    let name = d.detached("--hostname fen");
    d.run(&format!("exec {name} hostname")).prints("fen");
    d.run(&format!("exec --user 1000 --workdir /tmp --env LEAF=red {name} sh -c 'echo $(id -u) $PWD $LEAF'"))
        .prints("1000 /tmp red");
    d.call(&format!("exec --interactive {name} cat")).stdin("typed").run().prints("typed");
    d.run(&format!("exec {name} sh -c 'exit 9'")).exits(9);
}

#[test]
#[ignore = "needs docker: scripts/test runs it in the guest"]
fn exec_of_what_is_no_program_is_126() {
    // dockerd says so of both.
    let d = docker();
    let name = d.detached("");
    d.run(&format!("exec {name} no-such-command")).exits(126).says("no-such-command");
    d.run(&format!("exec {name} /bin/text")).exits(126);
}

#[test]
#[ignore = "needs docker: scripts/test runs it in the guest"]
fn exec_on_a_terminal_and_detached() {
    let d = docker();
    let name = d.detached("");
    d.call(&format!("exec --interactive --tty {name} sh -c '{TERMINAL_SIZE}; exit 4'"))
        .on_terminal(31, 97, "")
        .run()
        .exits(4)
        .says("31 97");
    d.run(&format!("exec --detach {name} touch /tmp/done")).ok();
    wait_until("the file", || d.run(&format!("exec {name} test -e /tmp/done")).status.success());
}

#[test]
#[ignore = "needs docker: scripts/test runs it in the guest"]
fn top_and_stats() {
    let d = docker();
    let name = d.detached("--memory 64m");
    d.run(&format!("top {name}")).ok().says("sleep 1000");
    let line = d.run(&format!("stats --no-stream --format '{{{{.PIDs}}}} {{{{.MemUsage}}}}' {name}")).text();
    assert!(line.starts_with("2 ") && line.ends_with("/ 64MiB"), "{line}");
}

#[test]
#[ignore = "needs docker: scripts/test runs it in the guest"]
fn stop_sends_the_signal_then_kills() {
    let d = docker();
    let heeds = d.background(NONE, "trap \"exit 11\" TERM; echo ready; while :; do sleep 0.1; done");
    wait_until("ready", || d.run(&format!("logs {heeds}")).stdout.contains("ready"));
    d.run(&format!("stop --time 30 {heeds}")).ok();
    assert_eq!(d.inspect(&heeds, "{{.State.ExitCode}}"), "11");
    let deaf = d.background(NONE, "trap : TERM; while :; do sleep 1000; done");
    d.run(&format!("stop --time 1 {deaf}")).ok();
    assert_eq!(d.inspect(&deaf, "{{.State.ExitCode}}"), "137");
    d.remove(&format!("{heeds} {deaf}"));
}

#[test]
#[ignore = "needs docker: scripts/test runs it in the guest"]
fn kill_by_name_and_number() {
    let d = docker();
    for (signal, code) in [("USR1", "21"), ("12", "22"), ("KILL", "137")] {
        let script = "trap \"exit 21\" USR1; trap \"exit 22\" USR2; echo ready; while :; do sleep 0.1; done";
        let name = d.background(NONE, script);
        wait_until("ready", || d.run(&format!("logs {name}")).stdout.contains("ready"));
        d.run(&format!("kill --signal {signal} {name}")).ok();
        d.run(&format!("wait {name}")).prints(code);
        d.remove(&name);
    }
}

#[test]
#[ignore = "needs docker: scripts/test runs it in the guest"]
fn pause_and_unpause() {
    let d = docker();
    let name = d.detached("");
    d.run(&format!("pause {name}")).ok();
    assert_eq!(d.inspect(&name, "{{.State.Status}}"), "paused");
    d.run(&format!("unpause {name}")).ok();
    d.run(&format!("exec {name} true")).ok();
}

#[test]
#[ignore = "needs docker: scripts/test runs it in the guest"]
fn restart_and_forced_removal() {
    let d = docker();
    let name = d.detached("");
    let before = d.inspect(&name, "{{.State.Pid}}");
    d.run(&format!("restart --time 0 {name}")).ok();
    let after = d.inspect(&name, "{{.State.Pid}}");
    assert_ne!(before, after);
    let id = d.inspect(&name, "{{.Id}}");
    d.remove(&name);
    wait_until("the shim is gone", || !is_running(&id));
    d.run(&format!("inspect {name}")).exits(1);
}

#[test]
#[ignore = "needs docker: scripts/test runs it in the guest"]
fn limits_and_their_update() {
    let d = docker();
    let name = d.detached("--memory 64m --cpus 0.5 --pids-limit 33");
    let show =
        || d.run(&format!("exec {name} sh -c 'cd /sys/fs/cgroup; cat memory.max cpu.max pids.max'")).text();
    assert_eq!(show(), "67108864\n50000 100000\n33");
    d.run(&format!("update --memory 96m --memory-swap 96m {name}")).ok();
    d.run(&format!("update --cpus 0.25 --pids-limit 44 {name}")).ok();
    assert_eq!(show(), "100663296\n25000 100000\n44");
}

#[test]
#[ignore = "needs docker: scripts/test runs it in the guest"]
fn want_of_memory_kills_and_is_told() {
    let d = docker();
    // As with Podman: the shim may come too late.
    let told = (0..4).any(|_| {
        let name = d.place.name();
        let options = format!("--network none --name {name} --memory 20m --memory-swap 20m");
        d.run(&format!("run {options} moss tail /dev/zero")).exits(137);
        d.inspect(&name, "{{.State.OOMKilled}}") == "true"
    });
    assert!(told);
}

#[test]
#[ignore = "needs docker: scripts/test runs it in the guest"]
fn networks_of_every_kind() {
    let d = docker();
    let names = "cd /sys/class/net; echo *";
    d.sh(NONE, names).prints("lo");
    d.sh("", names).ok().says("eth0");
    let host = d.sh("--network host", "readlink /proc/self/ns/net").text();
    if is_root() {
        assert_eq!(host, namespace("self", "net"));
    }
    let name = d.detached("");
    let theirs = d.run(&format!("exec {name} readlink /proc/1/ns/net")).text();
    d.sh(&format!("--network container:{name}"), "readlink /proc/self/ns/net").prints(&theirs);
}

#[test]
#[ignore = "needs docker: scripts/test runs it in the guest"]
fn bridge_of_the_users_and_published_port() {
    let d = docker();
    let net = d.place.name();
    d.run(&format!("network create {net}")).ok();
    let script = "mkdir /w; echo leaf > /w/index.html; httpd -f -h /w -p 80";
    let server = d.background(&format!("--network {net} --publish 127.0.0.1:18090:80"), script);
    d.run(&format!("port {server} 80")).prints("127.0.0.1:18090");
    let get = || Program::new("curl").words("-sS http://127.0.0.1:18090").run();
    wait_until("an answer", || get().stdout == "leaf\n");
    let address =
        d.inspect(&server, &format!("{{{{(index .NetworkSettings.Networks \"{net}\").IPAddress}}}}"));
    d.sh(&format!("--network {net}"), &format!("wget -q -O - http://{address}")).prints("leaf");
    d.remove(&server);
    d.run(&format!("network rm {net}")).ok();
}

#[test]
#[ignore = "needs docker: scripts/test runs it in the guest"]
fn volumes() {
    let d = docker();
    let dir = d.place.scratch();
    fs::write(dir.join("leaf"), "green\n").unwrap();
    let at = dir.display();
    d.sh(&format!("{NONE} --volume {at}:/mnt"), "cat /mnt/leaf; touch /mnt/new").prints("green");
    assert!(dir.join("new").exists());
    d.sh(&format!("{NONE} --volume {at}:/mnt:ro,z"), "cat /mnt/leaf; touch /mnt/no").exits(1).says("green");
    let name = d.place.name();
    d.sh(&format!("{NONE} --volume {name}:/data"), "echo kept > /data/leaf").ok();
    d.sh(&format!("{NONE} --volume {name}:/data:ro"), "cat /data/leaf").prints("kept");
    d.sh(&format!("{NONE} --tmpfs /data:size=2m"), "df -k /data | grep -c 2048").prints("1");
}

#[test]
#[ignore = "needs docker: scripts/test runs it in the guest"]
fn read_only_root() {
    docker()
        .sh(
            &format!("{NONE} --read-only --tmpfs /tmp"),
            "touch /a 2>/dev/null || echo no; touch /tmp/a && echo yes",
        )
        .prints("no\nyes");
}

#[test]
#[ignore = "needs docker: scripts/test runs it in the guest"]
fn capabilities_and_privileged() {
    let d = docker();
    let effective = |options: &str| {
        let line = d.sh(&format!("{NONE} {options}"), "grep CapEff /proc/self/status").text();
        u64::from_str_radix(line.rsplit('\t').next().unwrap(), 16).unwrap()
    };
    let base = effective("");
    assert_eq!(effective("--cap-add SYS_NICE"), base | 1 << 23);
    assert_eq!(effective("--cap-drop CHOWN"), base & !1);
    assert_eq!(effective("--cap-drop ALL"), 0);
    assert_ne!(effective("--privileged") & 1 << 21, 0);
}

#[test]
#[ignore = "needs docker: scripts/test runs it in the guest"]
fn seccomp_of_every_kind() {
    let d = docker();
    let show = "grep Seccomp: /proc/self/status";
    d.sh(NONE, show).prints("Seccomp:\t2");
    d.sh(&format!("{NONE} --security-opt seccomp=unconfined"), show).prints("Seccomp:\t0");
    let profile = d.place.file(
        "profile.json",
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]}"#,
    );
    d.sh(&format!("{NONE} --security-opt seccomp={}", profile.display()), "mkdir /tmp/a; echo $?")
        .prints("1")
        .says("Function not implemented");
}

#[test]
#[ignore = "needs docker: scripts/test runs it in the guest"]
fn device_ulimit_sysctl_and_shm() {
    if !is_root() {
        crate::lab::fails_with!("crun", "as a plain user crun binds a device of the same path only");
    }
    let options = "--device /dev/null:/dev/moss --ulimit nofile=100:200 --sysctl net.ipv4.ip_default_ttl=77 --shm-size 5m";
    docker()
        .sh(
            &format!("{NONE} {options}"),
            "test -c /dev/moss && ulimit -n; ulimit -Hn; cat /proc/sys/net/ipv4/ip_default_ttl; df -k /dev/shm | grep -c 5120",
        )
        .prints("100\n200\n77\n1");
}

#[test]
#[ignore = "needs docker: scripts/test runs it in the guest"]
fn namespaces_of_the_hosts() {
    let d = docker();
    let shown = d.sh(&format!("{NONE} --pid host --uts host --ipc host"), "cat /proc/1/comm").text();
    assert!(["systemd", "dockerd", "rootlesskit", "sh"].contains(&&*shown), "{shown}");
    let name = d.detached("--ipc shareable");
    let theirs = d.run(&format!("exec {name} readlink /proc/1/ns/ipc")).text();
    d.sh(&format!("{NONE} --ipc container:{name} --pid container:{name}"), "readlink /proc/self/ns/ipc")
        .prints(&theirs);
}

#[test]
#[ignore = "needs docker: scripts/test runs it in the guest"]
fn init_and_oom_score() {
    docker().sh(&format!("{NONE} --oom-score-adj 500"), "cat /proc/self/oom_score_adj").prints("500");
    if !Path::new("/usr/bin/docker-init").exists() && !Path::new("/usr/libexec/docker/docker-init").exists() {
        return not_here("--init needs docker-init of the package tini");
    }
    docker().sh(&format!("{NONE} --init"), "cat /proc/1/comm").says("docker-init");
}

#[test]
#[ignore = "needs docker: scripts/test runs it in the guest"]
fn cgroup_parent() {
    let parent = if is_root() { "moss.slice" } else { "user-moss.slice" };
    docker()
        .sh(&format!("{NONE} --cgroup-parent {parent} --cgroupns host"), "cat /proc/self/cgroup")
        .ok()
        .says(&format!("{parent}/docker-"));
}

#[test]
#[ignore = "needs docker: scripts/test runs it in the guest"]
fn healthcheck() {
    let d = docker();
    let name = d.detached("--health-cmd 'test -e /tmp/well' --health-interval 1s --health-retries 1");
    d.run(&format!("exec {name} touch /tmp/well")).ok();
    wait_until("it is well", || d.inspect(&name, "{{.State.Health.Status}}") == "healthy");
}

#[test]
#[ignore = "needs docker: scripts/test runs it in the guest"]
fn checkpoint_is_done_or_refused() {
    let d = docker();
    let name = d.detached("");
    d.run(&format!("checkpoint create {name} one")).fails();
    d.run(&format!("exec {name} true")).ok();
}

#[test]
#[ignore = "needs docker: scripts/test runs it in the guest"]
fn eight_containers_at_once() {
    let d = docker();
    let base = d.place.name();
    let script = format!(
        "for i in $(seq 8); do \"$@\" run --detach --network none --name {base}-$i moss sleep 1000 >/dev/null & done; wait; \
         all=$(\"$@\" ps --quiet --filter name={base}- --filter status=running); echo $all | wc -w; \"$@\" rm --force $all | wc -l"
    );
    d.call("").in_shell(&script).run().prints("8\n8");
}

#[test]
#[ignore = "needs docker: scripts/test runs it in the guest"]
fn build_with_run() {
    let d = docker();
    let dir = d.place.scratch();
    let file = "FROM moss\nRUN echo green > /leaf && id -u > /uid\nUSER 1000\nRUN echo brown > /tmp/bark\n\
                CMD cat /leaf /uid /tmp/bark\n";
    fs::write(dir.join("Dockerfile"), file).unwrap();
    let tag = d.place.name();
    d.run(&format!("build --network none --tag {tag} {}", dir.display())).ok();
    d.run(&format!("run --rm --network none {tag}")).prints("green\n0\nbrown");
    fs::write(dir.join("Dockerfile"), "FROM moss\nRUN exit 9\n").unwrap();
    d.run(&format!("build --network none {}", dir.display())).fails().says("returned a non-zero code: 9");
}

#[test]
#[ignore = "needs docker-compose: scripts/test runs it in the guest"]
fn compose() {
    let d = docker();
    let dir = d.place.scratch();
    let text = "services:\n  leaf:\n    image: moss\n    command: [sh, -c, 'echo $$COLOUR; exec sleep 1000']\n    init: false\n\
                \x20   environment: {COLOUR: green}\n    mem_limit: 64m\n    cap_drop: [ALL]\n    read_only: true\n\
                \x20 root:\n    image: moss\n    command: sleep 1000\n    depends_on: [leaf]\n    pid: service:leaf\n";
    fs::write(dir.join("compose.yaml"), text).unwrap();
    let project = d.place.name();
    let compose = |line: &str| d.call(&format!("compose --project-name {project} {line}")).dir(&dir).run();
    compose("up --detach").ok();
    wait_until("its log", || compose("logs leaf").stdout.contains("green"));
    compose("exec -T leaf cat /sys/fs/cgroup/memory.max").prints("67108864");
    compose("exec -T root ps").ok().says("sleep 1000");
    compose("down --timeout 0").ok();
}

/// Bryo in a container of Docker's.
#[test]
#[ignore = "needs docker: scripts/test runs it in the guest"]
fn nested_with_the_settings_that_doctor_proposes() {
    fails_with!("runc" | "crun", "it is bryo that is run inside");
    let d = docker();
    let inner = Inner::new(&d.place);
    let run = |options: &str, command: &str| {
        d.run(&format!("run --rm --network none {options} {} moss {command}", inner.volumes))
    };
    run("", "sh /inner/run").fails().says("NS-SECCOMP").says("docker, podman");
    let options = proposed(run("", "/bryo doctor --for nested --json"), "docker");
    for wanted in ["seccomp=unconfined", "systempaths=unconfined"] {
        assert!(options.contains(wanted), "{options}");
    }
    assert!(!options.contains("privileged"), "{options}");
    run(&options, "sh /inner/run").prints("uid 0 pid 1");
}
