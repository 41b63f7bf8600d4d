//! The life cycle of containers, timed side by side: what `scripts/bench` runs.
//!
//!     lifecycle ROUNDS ROOTFS LABEL=COMMAND...
//!
//! A figure taken alone says little on a machine that does other things too. So the runtimes
//! take turns within a round, a different one first each time, and a ratio is the median of
//! the ratios of single rounds: what slows the machine down then slows both sides of it.
//!
//! Wall time runs from the spawn of a command to its exit. Cpu time is that of the command
//! and of the processes that it has itself waited for; the container's own init outlives
//! `create` and is shown apart, once it has died.
//!
//! Nothing here is asserted but that every command succeeds.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

mod bundle;

/// Rounds that are not counted: caches are cold, and a runtime may set up its own.
const WARM_UP: usize = 2;

/// How long a killed container may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let rounds = args.next().context("usage: lifecycle ROUNDS ROOTFS LABEL=COMMAND...")?;
    let rounds: usize = rounds.parse().with_context(|| format!("{rounds}: not a number"))?;
    ensure!(rounds > 0, "0 rounds measure nothing");
    let rootfs = PathBuf::from(args.next().context("no root file system given")?);

    // On tmpfs where possible: state lives there in real life too.
    let dir = ["XDG_RUNTIME_DIR", "TMPDIR"]
        .into_iter()
        .find_map(std::env::var_os)
        .map_or_else(|| PathBuf::from("/dev/shm"), PathBuf::from)
        .join(format!("bryo-bench-{}", std::process::id()));
    fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let measured = args
        .enumerate()
        .map(|(n, arg)| Runtime::parse(&arg, &dir.join(n.to_string())))
        .collect::<Result<Vec<_>>>()
        .and_then(|runtimes| measure(&runtimes, rounds, &rootfs, &dir));
    fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;

    let failures = measured?;
    for (message, times) in &failures {
        say(&format!("{times} x {message}"))?;
    }
    ensure!(failures.is_empty(), "commands failed; the figures of their rows are not to be trusted");
    Ok(())
}

/// One line on stdout.
fn say(line: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{line}").context("stdout")
}

/// A runtime under test: its name in the tables, its words up to the verb, a place of its own.
struct Runtime {
    label: String,
    words: Vec<String>,
    dir: PathBuf,
}

impl Runtime {
    fn parse(arg: &str, dir: &Path) -> Result<Self> {
        let (label, command) = arg.split_once('=').with_context(|| format!("{arg}: no label"))?;
        let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        ensure!(!words.is_empty(), "{arg}: no command");
        fs::create_dir(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self { label: label.to_owned(), words, dir: dir.to_owned() })
    }

    fn command<I: AsRef<str>>(&self, verb: &[I]) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).arg("--root").arg(self.dir.join("state"));
        command.args(verb.iter().map(AsRef::as_ref));
        command
    }
}

/// What one command, or the life of one container's init, took.
#[derive(Clone, Copy)]
struct Cost {
    wall: Duration,
    cpu: Duration,
    failed: bool,
}

/// Every failure's first line of stderr, and how often it was seen.
type Failures = BTreeMap<String, usize>;

/// The steps of one table in their order, each with a row of costs a runtime, by round.
struct Table<'a> {
    runtimes: &'a [Runtime],
    steps: Vec<&'static str>,
    costs: BTreeMap<(usize, usize), Vec<Cost>>,
    failures: Failures,
    /// Whose turn it is, with which container, and whether it counts.
    who: usize,
    id: String,
    warm: bool,
}

impl<'a> Table<'a> {
    fn new(runtimes: &'a [Runtime]) -> Self {
        Self {
            runtimes,
            steps: vec![],
            costs: BTreeMap::new(),
            failures: Failures::new(),
            who: 0,
            id: String::new(),
            warm: false,
        }
    }

    /// Lets every runtime live one `round`, so often that `rounds` of them count.
    fn fill(&mut self, rounds: usize, mut round: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        for n in 0..WARM_UP + rounds {
            self.warm = n >= WARM_UP;
            for turn in 0..self.runtimes.len() {
                self.who = (n + turn) % self.runtimes.len();
                let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
                self.id = format!("bench-{}-{serial}", std::process::id());
                round(self)?;
            }
        }
        Ok(())
    }

    /// Notes a cost.
    fn note(&mut self, step: &'static str, cost: Cost) {
        if self.warm {
            let at = self.steps.iter().position(|known| *known == step).unwrap_or_else(|| {
                self.steps.push(step);
                self.steps.len() - 1
            });
            self.costs.entry((at, self.who)).or_default().push(cost);
        }
    }

    /// Notes a failure; its container's id would make each one look different.
    fn fail(&mut self, step: &str, message: &str) {
        let message = message.replace(&self.id, "ID");
        let message = format!("{} {step}: {message}", self.runtimes[self.who].label);
        *self.failures.entry(message).or_default() += 1;
    }

    /// Runs one command to its end and notes what it took.
    fn time(&mut self, step: &'static str, verb: &[&str]) -> Result<()> {
        let runtime = &self.runtimes[self.who];
        let stderr = runtime.dir.join("stderr");
        let mut command = runtime.command(verb);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&stderr)?);

        let cpu = cpu_of_children()?;
        let start = Instant::now();
        let status = command.status().with_context(|| format!("cannot run {}", runtime.words[0]))?;
        let wall = start.elapsed();
        let cost = Cost { wall, cpu: cpu_of_children()?.saturating_sub(cpu), failed: !status.success() };

        if cost.failed {
            let said = fs::read(&stderr)?;
            let said = String::from_utf8_lossy(&said);
            self.fail(step, &format!("{status}: {}", said.lines().next().unwrap_or("no message")));
        }
        self.note(step, cost);
        Ok(())
    }

    /// Prints a row a step and runtime; the ratios are to crun's, or to the first runtime's.
    fn print(&self, title: &str) -> Result<()> {
        let base = self.runtimes.iter().position(|runtime| runtime.label == "crun").unwrap_or(0);
        let to = format!("/{}", self.runtimes[base].label);
        say(&format!("\n== {title}"))?;
        say(&format!(
            "{:<9}{:<14}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}  {:>9} {:>9} {:>7}",
            "step",
            "runtime",
            "wall p10",
            "median",
            "p90",
            "cpu p10",
            "median",
            "p90",
            format!("wall{to}"),
            format!("cpu{to}"),
            "failed",
        ))?;
        for (at, step) in self.steps.iter().enumerate() {
            for (who, runtime) in self.runtimes.iter().enumerate() {
                let (Some(costs), Some(bases)) = (self.costs.get(&(at, who)), self.costs.get(&(at, base)))
                else {
                    continue;
                };
                let mut line = format!("{step:<9}{:<14}", runtime.label);
                for part in [|cost: &Cost| cost.wall, |cost: &Cost| cost.cpu] {
                    let sorted = sorted(costs.iter().map(|cost| part(cost).as_secs_f64() * 1e6));
                    for share in [0.1, 0.5, 0.9] {
                        line += &format!("{:>9.0}", quantile(&sorted, share));
                    }
                }
                line += " ";
                for part in [|cost: &Cost| cost.wall, |cost: &Cost| cost.cpu] {
                    let ratios = costs.iter().zip(bases);
                    let ratios = ratios
                        .map(|(cost, base)| part(cost).as_secs_f64() / part(base).as_secs_f64().max(1e-6));
                    line += &format!(" {:>9.2}", quantile(&sorted(ratios), 0.5));
                }
                line += &format!(" {:>7}", costs.iter().filter(|cost| cost.failed).count());
                say(&line)?;
            }
        }
        Ok(())
    }
}

fn measure(runtimes: &[Runtime], rounds: usize, rootfs: &Path, dir: &Path) -> Result<Failures> {
    ensure!(!runtimes.is_empty(), "no runtime given");
    // Containers that `create` leaves behind become children of this process, which can
    // then tell when they are gone and what they took.
    nix::sys::prctl::set_child_subreaper(true)?;

    say(&format!("{rounds} rounds after {WARM_UP} to warm up; times in microseconds"))?;
    let mut failures = Failures::new();
    for kind in [bundle::Kind::Plain, bundle::Kind::Full] {
        let at = dir.join(kind.name());
        let path = at.to_str().context("a path that is not UTF-8")?;

        bundle::write(&at, rootfs, kind, &["/bin/true"])?;
        let mut table = Table::new(runtimes);
        table.fill(rounds, |table| table.time("run", &["run", "-b", path, &table.id.clone()]))?;
        table.print(&format!("run of true; {}", kind.words()))?;
        failures.append(&mut table.failures);

        bundle::write(&at, rootfs, kind, &["/bin/sleep", "1000"])?;
        let mut table = Table::new(runtimes);
        table.fill(rounds, |table| live(table, path))?;
        table.print(&format!("life of sleep; {}", kind.words()))?;
        failures.append(&mut table.failures);
    }
    Ok(failures)
}

/// One container from create to delete.
fn live(table: &mut Table, bundle: &str) -> Result<()> {
    let id = &table.id.clone();
    let pid_file = table.runtimes[table.who].dir.join("pid");
    let pid_file = pid_file.to_str().context("a path that is not UTF-8")?;
    table.time("version", &["--version"])?;
    table.time("create", &["create", "-b", bundle, "--pid-file", pid_file, id])?;
    table.time("state", &["state", id])?;
    table.time("start", &["start", id])?;
    table.time("exec", &["exec", id, "/bin/true"])?;
    table.time("kill", &["kill", id, "KILL"])?;
    let pid = fs::read_to_string(pid_file).ok().and_then(|pid| pid.trim().parse().ok());
    if let Some(pid) = pid {
        let gone = gone(Pid::from_raw(pid))?;
        if gone.failed {
            table.fail("kill", &format!("the container was still there after {PATIENCE:?}"));
        }
        table.note("(init)", gone);
        fs::remove_file(pid_file)?;
    }
    table.time("delete", &["delete", id])
}

/// Waits until a killed container's init is gone, and what its life took. One that stays is
/// killed from here, and counts as a failure.
fn gone(pid: Pid) -> Result<Cost> {
    let start = Instant::now();
    let cpu = cpu_of_children()?;
    let mut failed = false;
    loop {
        match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => {}
            Ok(_) => break,
            // Not a child of ours, whose fate and costs could be known.
            Err(errno) => bail!("cannot wait for process {pid}: {}", errno.desc()),
        }
        if !failed && start.elapsed() > PATIENCE {
            failed = true;
            kill(pid, Signal::SIGKILL)?;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    Ok(Cost { wall: start.elapsed(), cpu: cpu_of_children()?.saturating_sub(cpu), failed })
}

/// The cpu time of all children that have been waited for.
fn cpu_of_children() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = |time: TimeVal| u64::try_from(time.num_microseconds()).unwrap_or_default();
    Ok(Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time())))
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The value that `share` of the sorted values do not exceed; the nearest one, no mean of two.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or(f64::NAN)
}
