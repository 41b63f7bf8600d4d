//! Networks that bryo brings: `--network`, `--publish`, and the annotations that ask for the same.
//!
//! Whatever has to do with a helper is tested with both of them. They need a /dev/net/tun that the caller may
//! open; `scripts/test` makes one where the host's is root's alone.

mod journey;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::lab::{
    Bundle, Call, Container, Lab, NONE, PATIENCE, alive, bryo_only, eventually, field, note, plain_user_only,
};
use crate::readme::block;

const HELPERS: [&str; 2] = ["pasta", "slirp4netns"];

// ---- what the tests share -----------------------------------------------------------------------------------

/// What no helper does without.
fn needs_tun() {
    let path = "/dev/net/tun";
    if let Err(error) = fs::File::options().read(true).write(true).open(path) {
        panic!("{path}: {error}; fix: sudo chmod 666 {path}, or sudo scripts/test network");
    }
}

/// A bundle with a web server at port 80, which serves this page.
fn web<'lab>(lab: &'lab Lab, page: &str) -> Bundle<'lab> {
    needs_tun();
    let serve = format!(
        "mkdir /dev/shm/www && echo {page} >/dev/shm/www/index.html && exec httpd -f -p 80 -h /dev/shm/www"
    );
    lab.bundle().own_rootfs().sh(&serve)
}

/// A port of the host that nobody has.
fn free_port() -> u16 {
    TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap().local_addr().unwrap().port()
}

/// Whether somebody listens there.
fn is_taken(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
}

/// The page that is served there, once it is. Helpers accept at once, and end the connection while nobody listens inside.
#[track_caller]
fn page(address: impl Into<IpAddr>, port: u16) -> String {
    let address = SocketAddr::new(address.into(), port);
    let mut last = String::new();
    let served = eventually(PATIENCE, || match fetch(address) {
        Ok(answer) if answer.contains("200 OK") => {
            last = answer;
            true
        }
        other => {
            last = format!("{other:?}");
            false
        }
    });
    assert!(served, "nothing is served at {address}: {last}");
    last.lines().last().unwrap().to_owned()
}

fn fetch(address: SocketAddr) -> std::io::Result<String> {
    let mut connection = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    connection.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The host's own address, if it has one besides loopback.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    // Nothing is sent.
    socket.connect((Ipv4Addr::new(203, 0, 113, 1), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_loopback())
}

/// What the container's state says of its helper.
fn recorded(container: &Container) -> Value {
    let path = container.lab.root().join(&container.id).join("state.json");
    let state: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    state["network"].clone()
}

/// The pids of the helper and of its watcher.
fn processes(container: &Container) -> [i32; 2] {
    let network = recorded(container);
    ["helper", "watcher"].map(|who| network[who]["pid"].as_i64().unwrap() as i32)
}

fn end(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

/// The helper is gone, and its port with it, without anybody's help.
#[track_caller]
fn disconnected(pids: [i32; 2], port: u16) {
    let gone = eventually(Duration::from_secs(10), || !pids.iter().any(|pid| alive(*pid)) && !is_taken(port));
    assert!(gone, "{:?} live, port {port} is taken: {}", pids.map(alive), is_taken(port));
}

// ---- published ports ----------------------------------------------------------------------------------------

#[test]
fn explain_tells_the_helper_and_of_a_port_that_is_taken() {
    bryo_only!("runc brings no network");
    needs_tun();
    let lab = Lab::new();
    let bundle = lab.bundle();
    let port = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
    let taken = format!("{}:80", port.local_addr().unwrap().port());
    for helper in HELPERS {
        let flags = ["--network", helper, "-p", &taken];
        bundle.call("explain", flags).done().refuses(1, &["address already in use", "; fix: "]);
        let free = format!("127.0.0.1:{}:80", free_port());
        let told = bundle.call("explain", ["--network", helper, "-p", &free, "--json"]).done().ok().json();
        assert_eq!(told["network"]["helper"], helper);
        assert_eq!(told["network"]["publish"], json!([free]));
        assert_eq!(told["network"]["argv"][0], helper);
    }
}

#[test]
fn a_published_port_leads_into_the_container_from_every_address_of_the_host() {
    bryo_only!("runc brings no network");
    let lab = Lab::new();
    for helper in HELPERS {
        let port = free_port();
        let publish = format!("{port}:80");
        let container = web(&lab, helper).launch("run", &["--detach", "--network", helper, "-p", &publish]);
        assert_eq!(page(Ipv4Addr::LOCALHOST, port), helper);
        match own_address() {
            Some(address) => assert_eq!(page(address, port), helper),
            None => note("this host has no address but loopback, so none else was tried"),
        }
        // Without a route pasta has no IPv6 either.
        if helper == "pasta" && own_address().is_some() {
            assert_eq!(page(Ipv6Addr::LOCALHOST, port), helper);
        } else {
            assert!(container.stderr().contains("NET-V6"), "{}", container.stderr());
        }
        container.remove();
        assert!(!is_taken(port));
    }
}

#[test]
fn ports_of_one_address_and_ranges_lead_where_they_should() {
    bryo_only!("runc brings no network");
    let lab = Lab::new();
    for helper in HELPERS {
        let first = (0..).map(|_| free_port()).find(|port| *port < 65000 && !is_taken(port + 1)).unwrap();
        let publish = format!("127.0.0.1:{first}-{}:79-80", first + 1);
        let container =
            web(&lab, helper).launch("run", &["--detach", "--network", helper, "--publish", &publish]);
        assert_eq!(page(Ipv4Addr::LOCALHOST, first + 1), helper);
        if let Some(address) = own_address() {
            let refused = fetch(SocketAddr::new(address, first + 1)).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        }
        container.remove();
    }
}

#[test]
fn annotations_ask_for_the_same_as_flags() {
    bryo_only!("runc brings no network");
    let lab = Lab::new();
    let port = free_port();
    let container = web(&lab, "annotated")
        .with(|c| {
            c["annotations"] =
                json!({ "io.bryo.network": "auto", "io.bryo.publish": format!("127.0.0.1:{port}:80") });
        })
        .create();
    let _ = container.start().ok();
    assert_eq!(page(Ipv4Addr::LOCALHOST, port), "annotated");
    container.remove();
}

#[test]
fn fifty_containers_at_once_are_each_reached_at_their_port() {
    bryo_only!("runc brings no network");
    let lab = Lab::new();
    let mut containers = Vec::new();
    for n in 0..50 {
        let (port, name) = (free_port(), format!("page-{n}"));
        let publish = format!("127.0.0.1:{port}:80");
        let helper = HELPERS[n % 2];
        let launched = web(&lab, &name).launch("run", &["--detach", "--network", helper, "-p", &publish]);
        containers.push((launched, port, name));
    }
    for (_, port, name) in &containers {
        assert_eq!(&page(Ipv4Addr::LOCALHOST, *port), name);
    }
    let ports: Vec<_> = containers.iter().map(|(_, port, _)| *port).collect();
    containers.into_iter().for_each(|(container, ..)| container.remove());
    assert!(!ports.into_iter().any(is_taken));
}

#[test]
fn the_web_server_of_the_readme_is_reached() {
    bryo_only!("the commands are spelled bryo");
    let lab = Lab::new();
    let bundle = web(&lab, "grown without roots");
    bundle.save();
    let port = free_port().to_string();
    let [run, curl, shown] = &block("--network auto")[..] else { panic!("not the block that it was") };
    let words = |line: &str| -> Vec<String> {
        let words = line.strip_prefix("$ ").unwrap().replace("8080", &port);
        words.split_whitespace().map(str::to_owned).collect()
    };
    let run = words(run);
    assert_eq!(run[0], "bryo");
    let _ = lab.call(&run[1..]).cwd(&bundle.dir).done().ok();
    assert_eq!(page(Ipv4Addr::LOCALHOST, port.parse().unwrap()), *shown);
    let curl = words(curl);
    let _ = lab.program(&curl[0]).args(&curl[1..]).done().prints(&format!("{shown}\n"));
    let _ = lab.call(["delete", "--force", "web"]).done().ok();
}

// ---- every end ----------------------------------------------------------------------------------------------

#[test]
fn a_killed_helper_takes_its_port_along_and_leaves_the_container() {
    bryo_only!("runc brings no network");
    let lab = Lab::new();
    for helper in HELPERS {
        for victim in 0..2 {
            let port = free_port();
            let publish = format!("127.0.0.1:{port}:80");
            let container =
                web(&lab, helper).launch("run", &["--detach", "--network", helper, "-p", &publish]);
            let pids = processes(&container);
            end(pids[victim]);
            disconnected(pids, port);
            assert_eq!(container.status(), "running");
            container.remove();
        }
    }
}

#[test]
fn a_container_that_ends_by_itself_or_is_killed_ends_its_helper_before_anybody_deletes_it() {
    bryo_only!("runc brings no network");
    let lab = Lab::new();
    for helper in HELPERS {
        for signal in ["KILL", "TERM"] {
            let port = free_port();
            let publish = format!("127.0.0.1:{port}:80");
            let options = ["--detach", "--network", helper, "-p", &publish];
            let container = web(&lab, "").waits().launch("run", &options);
            container.wait_for_output("ready");
            let pids = processes(&container);
            assert!(pids.iter().all(|pid| alive(*pid)) && is_taken(port));
            let _ = container.kill(signal).ok();
            disconnected(pids, port);
            let _ = container.delete().ok();
        }
    }
}

#[test]
fn a_runtime_that_is_killed_leaves_the_network_for_as_long_as_the_container_lives() {
    bryo_only!("runc brings no network");
    let lab = Lab::new();
    for helper in HELPERS {
        let port = free_port();
        let publish = format!("127.0.0.1:{port}:80");
        let bundle = web(&lab, helper);
        let id = lab.id();
        let running = bundle.named_call("run", &id).args(["--network", helper, "-p", &publish]).spawn();
        assert_eq!(page(Ipv4Addr::LOCALHOST, port), helper);
        running.signal(Signal::SIGKILL);
        drop(running.wait());
        assert_eq!(page(Ipv4Addr::LOCALHOST, port), helper);
        let path = lab.root().join(&id).join("state.json");
        let state: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let pids = ["helper", "watcher"].map(|who| state["network"][who]["pid"].as_i64().unwrap() as i32);
        end(state["pid"].as_i64().unwrap() as i32);
        disconnected(pids, port);
        let _ = lab.call(["delete", &id]).done().ok();
    }
}

#[test]
fn a_runtime_that_is_killed_at_any_moment_leaves_no_helper() {
    bryo_only!("runc brings no network");
    let lab = Lab::new();
    for helper in HELPERS {
        for delay in [0, 4, 8, 12, 16, 20, 25, 30, 40, 60, 80] {
            let port = free_port();
            let publish = format!("127.0.0.1:{port}:80");
            let id = lab.id();
            let running = web(&lab, helper)
                .named_call("create", &id)
                .args(["--network", helper, "-p", &publish])
                .spawn();
            std::thread::sleep(Duration::from_millis(delay));
            // It may be done, and then it is deleted.
            let _ = kill(Pid::from_raw(running.pid()), Signal::SIGKILL);
            drop(running.wait());
            let _ = lab.call(["delete", "--force", &id]).done().ok();
            assert!(
                eventually(PATIENCE, || lab.processes().is_empty() && !is_taken(port)),
                "after {delay} ms"
            );
        }
    }
}

#[test]
fn the_end_of_a_container_in_the_foreground_is_the_end_of_its_network() {
    bryo_only!("runc brings no network");
    let lab = Lab::new();
    for helper in HELPERS {
        let port = free_port();
        let publish = format!("127.0.0.1:{port}:80");
        let bundle = web(&lab, "").sh("exit 3");
        let _ = bundle.call("run", ["--network", helper, "-p", &publish]).done().exits(3);
        assert!(!is_taken(port) && lab.processes().is_empty());
        // It fails once the helper works.
        let bundle = web(&lab, "").args(["/bin/absent"]);
        let _ = bundle
            .call("create", ["--network", helper, "-p", &publish])
            .done()
            .refuses(1, &["EXEC-NOTFOUND"]);
        assert!(!is_taken(port) && lab.processes().is_empty());
    }
}

#[test]
fn deleting_a_container_that_was_never_started_ends_its_network() {
    bryo_only!("runc brings no network");
    let lab = Lab::new();
    for helper in HELPERS {
        let port = free_port();
        let publish = format!("127.0.0.1:{port}:80");
        let container = web(&lab, "").launch("create", &["--network", helper, "-p", &publish]);
        let pids = processes(&container);
        assert!(is_taken(port));
        let _ = container.delete().ok();
        assert!(!pids.iter().any(|pid| alive(*pid)) && !is_taken(port));
    }
}

#[test]
fn a_pid_that_somebody_else_has_by_now_is_left_alone() {
    bryo_only!("runc brings no network");
    let lab = Lab::new();
    let container = web(&lab, "").launch("create", &["--network", "pasta"]);
    let stranger = lab.program("sleep").args(["1000"]).spawn();
    let path = lab.root().join(&container.id).join("state.json");
    let mut state: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let ours = processes(&container);
    state["network"]["helper"]["pid"] = stranger.pid().into();
    state["network"]["watcher"]["pid"] = stranger.pid().into();
    fs::write(&path, state.to_string()).unwrap();
    let _ = container.delete().ok();
    assert!(alive(stranger.pid()));
    assert!(eventually(PATIENCE, || !ours.iter().any(|pid| alive(*pid))));
}

// ---- what the helper is to the host and to the container ----------------------------------------------------

#[test]
fn a_helper_inherits_nothing_and_lives_outside_of_the_containers_cgroup_and_our_session() {
    bryo_only!("runc brings no network");
    let lab = Lab::new();
    for helper in HELPERS {
        let container = web(&lab, "")
            .with(|c| c["process"]["env"].as_array_mut().unwrap().push("LD_PRELOAD=/evil.so".into()))
            .launch("run", &["--detach", "--network", helper]);
        let [pid, watcher] = processes(&container);
        let read =
            |pid: i32, name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        assert_eq!(read(pid, "environ"), "", "{helper}");
        // pasta says that it is ready, and then puts its filter in place.
        assert!(eventually(PATIENCE, || field(&read(pid, "status"), "Seccomp") != "0"), "{helper}");
        assert_eq!(field(&read(pid, "status"), "NoNewPrivs"), "1", "{helper}");
        let session = |pid| nix::unistd::getsid(Some(Pid::from_raw(pid))).unwrap();
        assert_ne!(session(watcher), session(0));
        assert_eq!(read(watcher, "cgroup"), fs::read_to_string("/proc/self/cgroup").unwrap());
        // Whether we are let to see them is up to who they are.
        for who in [pid, watcher] {
            for entry in fs::read_dir(format!("/proc/{who}/fd")).into_iter().flatten().flatten() {
                let target = fs::read_link(entry.path()).unwrap_or_default();
                assert!(!target.starts_with(&lab.dir), "{helper}: {}", target.display());
            }
        }
        container.remove();
    }
}

#[test]
fn the_sandbox_of_a_helper_is_not_mounted_on_the_host() {
    bryo_only!("runc brings no network");
    let lab = Lab::new();
    // That is where slirp4netns makes it.
    let mounts = || {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let points = table.lines().filter_map(|line| line.split(' ').nth(4));
        points.filter(|point| point.starts_with("/tmp")).map(str::to_owned).collect::<Vec<_>>()
    };
    for helper in HELPERS {
        let before = mounts();
        let container = web(&lab, "").sleeps().launch("run", &["--detach", "--network", helper]);
        assert_eq!(mounts(), before, "{helper}");
        container.remove();
        assert_eq!(mounts(), before, "{helper}");
    }
}

#[test]
fn who_shares_our_pid_namespace_may_not_look_into_the_helper() {
    bryo_only!("runc brings no network");
    let lab = Lab::new();
    for helper in HELPERS {
        let bundle = web(&lab, "").without_namespace("pid").without_proc().with(|c| {
            for set in ["bounding", "effective", "permitted"] {
                c["process"]["capabilities"][set] = json!(["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"]);
            }
        });
        let container = bundle.sh("sleep 1000").launch("run", &["--detach", "--network", helper]);
        for pid in processes(&container) {
            // The first shows that it is in sight. Names in fd are for everybody of that uid, what they lead to is not.
            let look = format!(
                "test -d /proc/{pid} && ! readlink /proc/{pid}/fd/2 && ! readlink /proc/{pid}/exe && ! cat /proc/{pid}/environ"
            );
            let _ = container.exec(["sh", "-c", &look]).ok();
        }
        container.remove();
    }
}

// ---- what the container sees --------------------------------------------------------------------------------

#[test]
fn names_are_found_by_files_that_the_container_may_change_and_the_image_keeps_its_own() {
    bryo_only!("runc brings no network");
    let lab = Lab::new();
    let show = "cat /etc/hostname; tail -n 1 /etc/hosts; echo changed >/etc/hosts; cat /etc/hosts";
    let bundle = web(&lab, "").sh(show);
    fs::write(bundle.rootfs().join("etc/hosts"), "the image's\n").unwrap();
    let _ = bundle.call("run", ["--network", "auto"]).done().prints("moss\n127.0.1.1\tmoss\nchanged\n");
    assert_eq!(fs::read_to_string(bundle.rootfs().join("etc/hosts")).unwrap(), "the image's\n");
    // The configuration's own stays, and so does the image's where no network was asked for.
    let own = lab.file("own", "by the caller\n");
    let mounted = web(&lab, "").sh("cat /etc/hosts").add_mount(json!({
        "destination": "/etc/hosts", "type": "bind", "source": own, "options": ["bind", "ro"],
    }));
    let _ = mounted.call("run", ["--network", "none"]).done().prints("by the caller\n");
    let _ = bundle.sh("cat /etc/hosts").run().prints("the image's\n");
}

#[test]
fn an_image_that_leads_resolv_conf_into_proc_gets_nothing_mounted_there() {
    bryo_only!("runc brings no network");
    let lab = Lab::new();
    let bundle = web(&lab, "").sh("grep -c ' /proc' /proc/self/mountinfo");
    let plain = bundle.run().ok().stdout;
    for name in ["resolv.conf", "hosts", "hostname"] {
        std::os::unix::fs::symlink("/proc/self/attr/exec", bundle.rootfs().join("etc").join(name)).unwrap();
    }
    let ran = bundle.call("run", ["--network", "none"]).done().ok();
    assert_eq!(ran.stdout, plain, "{}", ran.stderr);
    assert!(ran.stderr.contains("NET-FILES"), "{}", ran.stderr);
}

#[test]
fn a_root_that_has_no_place_for_the_files_does_without_and_says_so() {
    bryo_only!("runc brings no network");
    let lab = Lab::new();
    let bundle = web(&lab, "").sh("ls /etc");
    fs::remove_dir_all(bundle.rootfs().join("etc")).unwrap();
    fs::write(bundle.rootfs().join("etc"), "a file").unwrap();
    let ran = bundle.call("run", ["--network", "none"]).done().prints("/etc\n");
    assert_eq!(ran.stderr.matches("warning: NET-FILES").count(), 2, "{}", ran.stderr);
}

#[test]
fn none_is_loopback_alone_and_host_is_the_hosts() {
    bryo_only!("runc brings no network");
    let lab = Lab::new();
    let list = "cd /proc/sys/net/ipv4/conf && ls -d *; ping -c 1 127.0.0.1 >/dev/null && echo lo is up";
    let privileged = web(&lab, "").sh(list).with(|c| {
        for set in ["bounding", "effective", "permitted"] {
            c["process"]["capabilities"][set] = json!(["CAP_NET_RAW"]);
        }
    });
    let _ = privileged.call("run", ["--network", "none"]).done().prints("all\ndefault\nlo\nlo is up\n");
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    let bundle = web(&lab, "").sh("readlink /proc/self/ns/net").namespace("network", None);
    let _ = bundle.call("run", ["--network", "host"]).done().prints(&format!("{}\n", own.display()));
    let without = bundle.run().ok().stdout;
    assert_ne!(without.trim(), own.to_str().unwrap(), "config.json has a word where nobody else does");
}

#[test]
fn a_namespace_is_joined_by_its_path_with_the_user_namespace_that_it_belongs_to() {
    bryo_only!("runc brings no network");
    let lab = Lab::new();
    let port = free_port();
    let publish = format!("127.0.0.1:{port}:80");
    let first = web(&lab, "first").launch("run", &["--detach", "--network", "auto", "-p", &publish]);
    assert_eq!(page(Ipv4Addr::LOCALHOST, port), "first");
    let of_first = |kind: &str| format!("/proc/{}/ns/{kind}", first.pid());
    let second =
        web(&lab, "").sh("readlink /proc/self/ns/net").namespace("user", Some(&of_first("user"))).with(|c| {
            c["linux"].as_object_mut().unwrap().retain(|key, _| !key.ends_with("Mappings"));
        });
    let expected = fs::read_link(of_first("net")).unwrap();
    let ran = second.call("run", ["--network", &format!("ns:{}", of_first("net"))]).done();
    let _ = ran.prints(&format!("{}\n", expected.display()));
    first.remove();
}

/// A machine of the test's own: the namespace that bryo is started in has one link, to a namespace beyond it that
/// serves a page. The resolver is on the loopback of the first, and knows one answer.
const MACHINE: &str = r#"
set -e
www=$1 resolv=$2
shift 2
ip link set lo up
unshare --net sleep 1000 & beyond=$!
trap 'kill $(jobs -p)' EXIT
export beyond
until [ "$(readlink /proc/$beyond/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
ip link add here type veth peer name there netns $beyond
ip addr add 192.0.2.1/24 dev here && ip link set here up && ip route add default via 192.0.2.2
nsenter --net=/proc/$beyond/ns/net sh -ec '
  ip link set lo up && ip addr add 198.51.100.7/32 dev lo
  ip addr add 192.0.2.2/24 dev there && ip link set there up
  exec busybox httpd -f -p 198.51.100.7:80 -h "$1"' sh "$www" &
mount --bind "$resolv" /etc/resolv.conf
perl -MSocket -e '
  socket(S, PF_INET, SOCK_DGRAM, 0) && bind(S, sockaddr_in(53, inet_aton("127.0.0.53"))) or die $!;
  while ($from = recv(S, $query, 512, 0)) {
    substr($query, 12) =~ /^(.*?\0(..)..)/s or next;
    my ($question, $answers) = ($1, $2 eq "\0\1" ? "\1" : "\0");
    my $answer = $answers eq "\1" ? "\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc6\x33\x64\x07" : "";
    send(S, substr($query, 0, 2) . "\x81\x80\0\1\0$answers\0\0\0\0$question$answer", 0, $from);
  }' &
until grep -q ':0035 ' /proc/net/udp; do sleep 0.01; done
"$@" </dev/null
"#;

/// A call of `run` on such a machine, through this script. The bundle's ids are those of its root.
fn on_a_machine<'lab>(lab: &'lab Lab, bundle: Bundle<'lab>, options: &[&str], script: &str) -> Call<'lab> {
    let www = lab.dir.join("www");
    fs::create_dir_all(&www).unwrap();
    fs::write(www.join("index.html"), "beyond\n").unwrap();
    let resolv = lab.file("resolv.conf", "search lan\nnameserver 127.0.0.53\n");
    let call = as_root_of_another(bundle).call("run", options).under(["bash", "-c", script, "bash"]);
    let machine =
        ["unshare", "--user", "--map-root-user", "--net", "--mount", "--", "bash", "-c", MACHINE, "machine"];
    call.under([&www, &resolv]).under(machine)
}

/// The only id where `unshare --map-root-user` leads to is 0.
fn as_root_of_another(bundle: Bundle) -> Bundle {
    bundle.with(|c| {
        for map in ["uidMappings", "gidMappings"] {
            c["linux"][map] = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
        }
    })
}

#[test]
fn a_container_reaches_what_lies_beyond_the_host_and_finds_it_by_name() {
    bryo_only!("runc brings no network");
    let lab = Lab::new();
    for helper in HELPERS {
        let ask = "nslookup moss.example.org | grep 198
            for n in 1 2 3 4 5; do wget -q -O - http://198.51.100.7/ && break; sleep 1; done";
        let call = on_a_machine(&lab, web(&lab, "").sh(ask), &["--network", helper], "\"$@\"");
        let ran = call.done().ok();
        assert!(ran.stdout.contains("198.51.100.7") && ran.stdout.ends_with("beyond\n"), "{helper}: {ran:?}");
    }
}

/// From beyond the host, since both helpers of Debian 12 lose answers to the host itself: slirp4netns, because it may not
/// speak to loopback, and pasta where the two ports differ.
#[test]
fn datagrams_are_published_too() {
    bryo_only!("runc brings no network");
    let lab = Lab::new();
    let answer = "socket(S, PF_INET, SOCK_DGRAM, 0) && bind(S, sockaddr_in(5000, INADDR_ANY)) or die;
        do { $from = recv(S, $word, 64, 0); send(S, \"got $word\", 0, $from) } until $word eq \"bye\";
        sleep 1";
    let script = r#"
        "$@" &
        for n in $(seq 50); do
          nsenter --net=/proc/$beyond/ns/net perl -MSocket -e '
            socket(S, PF_INET, SOCK_DGRAM, 0) && connect(S, sockaddr_in(8099, inet_aton("192.0.2.1"))) or die;
            for $word ("moss", "bye") {
              send(S, $word, 0);
              vec($wanted = "", fileno(S), 1) = 1;
              exit 1 unless select($wanted, undef, undef, 0.5) && defined recv(S, $answer, 64, 0);
              print "$answer\n";
            }' && break
        done
        wait $!"#;
    for helper in HELPERS {
        // The image has no Perl, but the host has.
        let host = ["/usr", "/lib", "/lib64"].into_iter().filter(|dir| fs::exists(dir).unwrap());
        let bundle = host.fold(web(&lab, ""), |bundle, dir| {
            bundle.add_mount(json!({
                "destination": dir, "type": "bind", "source": dir, "options": ["rbind", "ro"],
            }))
        });
        let bundle = bundle.args(["/usr/bin/perl", "-MSocket", "-e", answer]);
        let options = ["--network", helper, "-p", "192.0.2.1:8099:5000/udp"];
        let ran = on_a_machine(&lab, bundle, &options, script).done().ok();
        assert!(ran.stdout.ends_with("got moss\ngot bye\n"), "{helper}: {ran:?}");
    }
}

// ---- what is missing ----------------------------------------------------------------------------------------

/// The runtime sees these programs in place of the host's helpers.
fn with_helpers(lab: &Lab, scripts: &[(&str, &str)]) -> String {
    let dir = lab.dir.join("helpers");
    fs::create_dir_all(&dir).unwrap();
    for (name, body) in scripts {
        lab.script(&format!("helpers/{name}"), body);
    }
    dir.display().to_string()
}

#[test]
fn a_helper_that_hangs_is_killed_at_its_deadline() {
    bryo_only!("runc brings no network");
    let lab = Lab::new();
    let path = with_helpers(&lab, &[("pasta", "echo waiting >&2; exec sleep 1000")]);
    let call = web(&lab, "").call("run", ["--network", "pasta"]).env_remove("PATH").env("PATH", path);
    let _ = call.done().refuses(1, &["NET-TIMEOUT", "said waiting: connection timed out", "fix: "]);
    assert!(lab.processes().is_empty() && lab.state_entries().iter().all(|entry| entry == "seccomp:cache"));
}

#[test]
fn a_helper_that_fails_says_why_in_our_one_line() {
    bryo_only!("runc brings no network");
    let lab = Lab::new();
    for (name, body, words) in [
        ("pasta", "echo no luck >&2; echo today >&2; exit 7", "pasta: no luck today"),
        ("slirp4netns", "exit 7", "slirp4netns: exit status: 7"),
        ("pasta", "kill -9 $$", "pasta: signal: 9"),
    ] {
        let path = with_helpers(&lab, &[(name, body)]);
        let call = web(&lab, "").call("create", ["--network", name]).env_remove("PATH").env("PATH", path);
        let _ = call.done().refuses(1, &["cannot connect container", "NET-HELPER", words]);
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    bryo_only!("runc brings no network");
    let lab = Lab::new();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    for helper in HELPERS {
        for publish in [format!("127.0.0.1:{port}:80"), format!("{port}:80")] {
            let call = web(&lab, "").call("run", ["--network", helper, "-p", &publish]);
            let _ = call.done().refuses(1, &[&format!("port {port}: address already in use"), "fix: "]);
        }
    }
}

#[test]
fn a_port_of_roots_is_refused_before_anything_is_started() {
    bryo_only!("runc brings no network");
    plain_user_only!("root may have any port");
    let start = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    let start: u16 = start.trim().parse().unwrap();
    assert!(
        start > 0,
        "every port is everybody's here; fix: sudo sysctl -w net.ipv4.ip_unprivileged_port_start=1024"
    );
    let lab = Lab::new();
    let publish = format!("{}:80", start - 1);
    for helper in HELPERS {
        let call = web(&lab, "").call("run", ["--network", helper, "-p", &publish]);
        let fixes =
            format!("publish one from {start} on, or sudo sysctl -w net.ipv4.ip_unprivileged_port_start=");
        let _ = call.done().refuses(1, &["NET-PORT", "permission denied", &fixes]);
    }
}

#[test]
fn words_that_make_no_sense_are_refused_before_anything_is_started() {
    bryo_only!("runc brings no network");
    let lab = Lab::new();
    let bundle = lab.bundle();
    for (options, word) in [
        (&["--network", "bridge"][..], "bridge"),
        (&["--network", "ns:blue"], "absolute"),
        (&["--network", "auto", "-p", "80"], "HOST:CONTAINER"),
        (&["--network", "auto", "-p", "8000:1", "-p", "127.0.0.1:8000:2"], "overlap"),
        (&["-p", "8000:80"], "--network auto"),
        (&["--network", "host", "-p", "8000:80"], "the host's already"),
        (&["--network", "none", "-p", "8000:80"], "loopback"),
    ] {
        let _ = bundle.call("run", options).done().refuses(1, &[word]);
    }
    let annotated = lab.bundle().with(|c| c["annotations"] = json!({ "io.bryo.publish": "http" }));
    let _ = annotated.call("run", NONE).done().refuses(1, &["io.bryo.publish", "invalid argument"]);
    assert!(lab.state_entries().is_empty());
}

#[test]
fn a_container_that_asks_for_no_network_has_no_helper_and_no_files() {
    bryo_only!("runc brings no network");
    let lab = Lab::new();
    let container = lab.bundle().namespace("network", None).sleeps().detach();
    assert!(recorded(&container).is_null());
    let entry = lab.root().join(&container.id);
    assert!(!["hosts", "resolv.conf", "hostname"].iter().any(|name| entry.join(name).exists()));
    container.remove();
}
