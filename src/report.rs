//! From an errno, a step and the facts to one line that a person can act on.
//!
//! `act object: CODE: cause; fix: way out`. One line, because Podman shows only the first line that
//! matches the words it knows; the cause ends in the errno's text, because those are the words.

use nix::errno::Errno;
use std::fmt;
use std::io::Write;
use std::sync::OnceLock;

/// A failure that is complete: whoever gets it passes it on as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    act: String,
    code: Option<&'static str>,
    cause: String,
    fix: Option<String>,
    status: Option<u8>,
}

impl Failure {
    /// `act` says what was tried and on what: `cannot map gids for container web`.
    pub fn new(act: impl Into<String>, cause: impl Into<String>) -> Failure {
        Failure { act: act.into(), code: None, cause: cause.into(), fix: None, status: None }
    }

    /// One that another process of ours has told, complete and in one line.
    pub fn told(line: &str) -> Failure {
        let (act, cause) = line.split_once(": ").unwrap_or((line, "it did not say why"));
        Failure::new(act, cause)
    }

    /// The same for a bare errno.
    pub fn errno(act: impl Into<String>, errno: Errno) -> Failure {
        Failure::new(act, errno_text(errno))
    }

    /// Adds the stable code of the degradation table.
    #[must_use]
    pub fn code(mut self, code: &'static str) -> Failure {
        self.code = Some(code);
        self
    }

    /// Adds to the cause what was done about it.
    #[must_use]
    pub fn aside(mut self, words: &str) -> Failure {
        self.cause = format!("{}; {words}", self.cause);
        self
    }

    /// Adds the way out.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Failure {
        self.fix = Some(fix.into());
        self
    }

    /// Sets what to exit with, where that is not up to the verb.
    #[must_use]
    pub fn status(mut self, status: u8) -> Failure {
        self.status = Some(status);
        self
    }

    /// The code, where there is one.
    pub fn code_name(&self) -> Option<&'static str> {
        self.code
    }

    /// The cause, with the errno's text.
    pub fn cause(&self) -> &str {
        &self.cause
    }

    /// The way out, where one is known.
    pub fn way_out(&self) -> Option<&str> {
        self.fix.as_deref()
    }

    /// Act, code, cause and fix, for who puts them together in another way.
    pub fn parts(&self) -> (&str, Option<&'static str>, &str, Option<&str>) {
        (&self.act, self.code, &self.cause, self.fix.as_deref())
    }

    /// What was set to exit with.
    pub fn exit_status(&self) -> Option<u8> {
        self.status
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.act)?;
        if let Some(code) = self.code {
            write!(f, "{code}: ")?;
        }
        f.write_str(&self.cause)?;
        if let Some(fix) = &self.fix {
            write!(f, "; fix: {fix}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// The text of an errno as runc and Go write it: lower case, no number. The same with every C library, since engines
/// look for some of these words.
pub fn errno_text(errno: Errno) -> String {
    // Where nix has other words than Go and glibc, theirs: they are what people search for.
    let text = match errno {
        Errno::EIO => "input/output error",
        Errno::EBADF => "bad file descriptor",
        Errno::EAGAIN => "resource temporarily unavailable",
        Errno::ENOMEM => "cannot allocate memory",
        Errno::EXDEV => "invalid cross-device link",
        Errno::ENFILE => "too many open files in system",
        Errno::ENOTTY => "inappropriate ioctl for device",
        Errno::ERANGE => "numerical result out of range",
        Errno::EDEADLK => "resource deadlock avoided",
        Errno::ELOOP => "too many levels of symbolic links",
        Errno::EBADMSG => "bad message",
        Errno::EOPNOTSUPP => "operation not supported",
        Errno::EDQUOT => "disk quota exceeded",
        other => other.desc(),
    };
    lower_case(text)
}

/// The text of an I/O error, likewise.
pub fn io_text(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(errno) => errno_text(Errno::from_raw(errno)),
        None => lower_case(&error.to_string()),
    }
}

fn lower_case(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// Says what was being done when a system call or an I/O operation failed.
pub trait Act<T> {
    /// Turns the error into a [`Failure`] whose act is `act()`.
    ///
    /// # Errors
    /// The failure, where there was an error.
    fn act<S: Into<String>>(self, act: impl FnOnce() -> S) -> Result<T, Failure>;
}

impl<T> Act<T> for Result<T, Errno> {
    fn act<S: Into<String>>(self, act: impl FnOnce() -> S) -> Result<T, Failure> {
        self.map_err(|errno| Failure::errno(act(), errno))
    }
}

impl<T> Act<T> for std::io::Result<T> {
    fn act<S: Into<String>>(self, act: impl FnOnce() -> S) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(act(), io_text(&error)))
    }
}

type Sink = Box<dyn Fn(&str) + Send + Sync>;

/// Where what is for who debugs goes.
static DEBUG: OnceLock<Sink> = OnceLock::new();

/// Turns [`debug`] on: `--debug`.
pub fn set_debug(sink: impl Fn(&str) + Send + Sync + 'static) {
    // Once and for all: there is one command line.
    let _ = DEBUG.set(Box::new(sink));
}

/// Says something to who debugs. Never called by init, which says nothing.
pub fn debug(line: impl FnOnce() -> String) {
    if let Some(sink) = DEBUG.get() {
        sink(&line());
    }
}

/// Warns of what goes on with weaker means or without a part: one line, on stderr only.
pub fn warn(line: &str) {
    // Nobody may be listening.
    let _ = writeln!(std::io::stderr(), "bryo: warning: {line}");
}

/// Everything on one line: what a helper or a parser says in several is joined by blanks.
pub fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With glibc, which the tests are linked with, std has these words.
    #[test]
    fn the_words_of_an_errno_are_those_that_everybody_knows() {
        let named = (1..134).map(Errno::from_raw).filter(|errno| *errno != Errno::UnknownErrno);
        let rare = [Errno::EDOM, Errno::ENOLCK, Errno::EILSEQ, Errno::ENETRESET];
        for errno in named.filter(|errno| !rare.contains(errno)) {
            let known = std::io::Error::from(errno).to_string();
            let known = known.rsplit_once(" (os error").unwrap().0;
            assert_eq!(errno_text(errno), lower_case(known));
        }
    }

    #[test]
    fn a_failure_is_one_line_with_act_code_cause_and_fix() {
        let failure = Failure::errno("cannot map gids for container web", Errno::EPERM)
            .code("ID-RANGE")
            .fix("add a range to /etc/subgid");
        assert_eq!(
            failure.to_string(),
            "cannot map gids for container web: ID-RANGE: operation not permitted; fix: add a range to /etc/subgid"
        );
    }

    #[test]
    fn what_another_process_told_reads_the_same_here() {
        let line = Failure::new("cannot map", "newgidmap: no").code("ID-RANGE").fix("ask").to_string();
        assert_eq!(Failure::told(&line).to_string(), line);
    }

    #[test]
    fn errnos_read_as_engines_expect_them() {
        assert_eq!(errno_text(Errno::ENOENT), "no such file or directory");
        assert_eq!(errno_text(Errno::EACCES), "permission denied");
    }

    #[test]
    fn what_a_helper_says_in_lines_becomes_one() {
        assert_eq!(one_line("newuidmap: bad\n  usage: x\n\n"), "newuidmap: bad usage: x");
    }
}
