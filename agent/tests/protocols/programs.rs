//! Servers and clients that cases run: started, waited for, ended by pid.
//!
//! In: a command. Out: a running [`Server`], or a [`Client`] that waits for a word before it begins, so that the agent
//! can be attached first. What a client prints is its report.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::harness::Missing;
use crate::support::process::{terminate, wait_exit};
use crate::support::tools;

/// How long a server may take to listen, a client to finish, and either to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server, ended with SIGTERM when dropped.
pub struct Server {
    child: Child,
    pub addr: SocketAddr,
}

/// A client that is started and waits.
pub struct Client {
    child: Child,
    name: String,
}

impl Server {
    /// Starts a command that is told by its caller to listen on `addr`, and waits until it does.
    pub fn start(name: &str, command: &mut Command, addr: SocketAddr) -> Result<Self> {
        Self::start_when(name, command, addr, || TcpStream::connect(addr).is_ok())
    }

    /// [`Self::start`] for servers whose readiness shows in another way.
    pub fn start_when(
        name: &str,
        command: &mut Command,
        addr: SocketAddr,
        mut ready: impl FnMut() -> bool,
    ) -> Result<Self> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut server = Self { child: child.with_context(|| format!("start {name}"))?, addr };
        let deadline = Instant::now() + PATIENCE;
        while !ready() {
            if let Some(status) = server.child.try_wait()? {
                bail!("{name} ended at once: {status}");
            }
            ensure!(Instant::now() < deadline, "{name} does not listen on {addr}");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

impl Client {
    /// Starts a command that begins only when [`Self::finish`] is called; its pid is the command's own.
    pub fn wait(name: &str, command: &Command) -> Result<Self> {
        let mut shell = Command::new("sh");
        shell.args(["-c", "read _ && exec \"$@\" </dev/null", "sh"]);
        shell.arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(key, value),
                None => shell.env_remove(key),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            shell.current_dir(folder);
        }
        let child = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Ok(Self { child: child.with_context(|| format!("start {name}"))?, name: name.to_owned() })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it begin, and returns what it printed; it must succeed.
    pub fn finish(mut self) -> Result<String> {
        self.begin()?;
        self.end()
    }

    /// Lets it begin.
    pub fn begin(&mut self) -> Result<()> {
        let mut stdin = self.child.stdin.take().context("no stdin")?;
        stdin.write_all(b"go\n").with_context(|| format!("start {}", self.name))
    }

    /// Waits for its end, and returns what it printed; it must succeed.
    pub fn end(mut self) -> Result<String> {
        let stderr = self.child.stderr.take().context("no stderr")?;
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            let mut stderr = stderr;
            let _ = stderr.read_to_string(&mut text);
            text
        });
        let mut output = String::new();
        self.child.stdout.take().context("no stdout")?.read_to_string(&mut output)?;
        let exit = wait_exit(&mut self.child, PATIENCE);
        let errors = errors.join().unwrap_or_default();
        ensure!(
            exit == Some(Some(0)),
            "{} ended with {exit:?}: {} {}",
            self.name,
            output.trim(),
            errors.trim()
        );
        Ok(output)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            end(&mut self.child);
        }
    }
}

fn end(child: &mut Child) {
    terminate(child.id());
    if wait_exit(child, PATIENCE).is_none() {
        let _ = child.kill();
    }
    let _ = child.wait();
}

/// A loopback address that nobody listens on.
pub fn free_addr() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// A program from PATH or from one of these folders (Debian keeps servers out of a user's PATH), or the case is skipped.
pub fn program(name: &str, folders: &[&str]) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(folders.iter().map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| Missing(format!("{name} is not installed")).into())
}

/// Sources of the clients.
pub fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/protocols/clients")
}

/// A Python with what `requirements.txt` in this folder of [`clients`] asks for.
pub fn python(folder: &str) -> Result<PathBuf> {
    tools::python_with(&clients().join(folder).join("requirements.txt"), &format!("protocols-{folder}"))
        .map_err(|reason| Missing(reason).into())
}

/// A Go program of [`clients`].
pub fn go(folder: &str) -> Result<PathBuf> {
    tools::need("go").map_err(Missing)?;
    tools::build_go(&clients().join(folder), &format!("protocols-{folder}"))
        .map_err(|reason| Missing(reason).into())
}

/// A copy of a folder of [`clients`] with the packages that its `package-lock.json` pins; made once.
pub fn node(folder: &str) -> Result<PathBuf> {
    tools::need("npm").map_err(Missing)?;
    let (from, to) = (clients().join(folder), tools::scratch().join(format!("protocols-{folder}")));
    std::fs::create_dir_all(&to)?;
    let (lock, done) = (std::fs::read(from.join("package-lock.json"))?, to.join("package-lock.done"));
    for entry in std::fs::read_dir(&from)? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    if std::fs::read(&done).ok().as_ref() != Some(&lock) {
        tools::build(Command::new("npm").args(["ci", "--silent", "--ignore-scripts"]).current_dir(&to))
            .map_err(Missing)?;
        std::fs::write(done, lock)?;
    }
    Ok(to)
}

/// Classes of a Java file of [`clients`].
pub fn java(folder: &str, file: &str) -> Result<PathBuf> {
    tools::need("javac").map_err(Missing)?;
    let classes = tools::scratch().join(format!("protocols-{folder}"));
    tools::build(Command::new("javac").arg("-d").arg(&classes).arg(clients().join(folder).join(file)))
        .map_err(Missing)?;
    Ok(classes)
}

/// A jar of Maven Central by its path there; fetched once.
pub fn maven(path: &str) -> Result<PathBuf> {
    tools::need("curl").map_err(Missing)?;
    let folder = tools::scratch().join("protocols-maven");
    std::fs::create_dir_all(&folder)?;
    let jar = folder.join(path.rsplit('/').next().unwrap_or(path));
    if !jar.is_file() {
        let part = jar.with_extension("part");
        let url = format!("https://repo1.maven.org/maven2/{path}");
        tools::build(Command::new("curl").args(["-sSfL", "--max-time", "60", "-o"]).arg(&part).arg(url))
            .map_err(Missing)?;
        std::fs::rename(part, &jar)?;
    }
    Ok(jar)
}
