//! The function as a process: started as Lambda starts it, looked at through /proc, held to its share of a CPU through a cgroup.

use anyhow::{Context, bail};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What is started, and with what in its environment.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// Added to what Lambda sets.
    pub(crate) env: Vec<(String, String)>,
    /// MB, as the function's environment says.
    pub(crate) memory: u64,
}

impl Program {
    /// Bytes of the program itself; for an interpreter that says little.
    pub(crate) fn size(&self) -> u64 {
        fs::metadata(&self.command[0]).map_or(0, |file| file.len())
    }

    /// Starts it. The moment is the one just before.
    pub(crate) fn start(&self, api: SocketAddr, share: Option<&Share>) -> anyhow::Result<Sandbox> {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.envs([
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
            ("LANG", "en_US.UTF-8"),
            ("TZ", ":UTC"),
            ("LAMBDA_TASK_ROOT", "/var/task"),
            ("LAMBDA_RUNTIME_DIR", "/var/runtime"),
            ("_HANDLER", "bootstrap"),
            ("AWS_EXECUTION_ENV", "AWS_Lambda_measured"),
            ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
            ("AWS_LAMBDA_FUNCTION_NAME", "measured"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/measured"),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "2026/01/01/[$LATEST]measured"),
            ("AWS_REGION", "eu-central-1"),
            ("AWS_DEFAULT_REGION", "eu-central-1"),
            ("AWS_ACCESS_KEY_ID", "AKIAMEASURED00000000"),
            ("AWS_SECRET_ACCESS_KEY", "measured"),
            ("AWS_SESSION_TOKEN", "measured"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ]);
        command.env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", self.memory.to_string()).env("AWS_LAMBDA_RUNTIME_API", api.to_string());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        let started = Instant::now();
        let mut child = command.spawn().with_context(|| format!("{} cannot be started", self.command[0]))?;
        if let Some(share) = share {
            share.take_in(child.id())?;
        }
        let said = Arc::new(Mutex::new(Said::default()));
        for (stream, is_log) in [
            (child.stdout.take().map(|s| Box::new(s) as Box<dyn Read + Send>), true),
            (child.stderr.take().map(|s| Box::new(s) as Box<dyn Read + Send>), false),
        ] {
            if let Some(stream) = stream {
                let said = Arc::clone(&said);
                std::thread::spawn(move || listen(stream, is_log, &said));
            }
        }
        Ok(Sandbox { child, started, said })
    }
}

/// What a function wrote.
#[derive(Default)]
pub(crate) struct Said {
    /// Lines on standard output, which is the log.
    pub(crate) lines: u64,
    /// Of those, how many are not JSON.
    pub(crate) not_json: u64,
    /// The last lines of standard error, where a panic speaks.
    pub(crate) errors: Vec<String>,
}

fn listen(stream: impl Read, is_log: bool, said: &Mutex<Said>) {
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        let Ok(mut said) = said.lock() else { return };
        if is_log {
            said.lines += 1;
            said.not_json += u64::from(serde_json::from_str::<serde_json::Value>(&line).is_err());
        } else {
            if said.errors.len() == 5 {
                said.errors.remove(0);
            }
            said.errors.push(line);
        }
    }
}

/// A function that runs. Ended when dropped.
pub(crate) struct Sandbox {
    child: Child,
    pub(crate) started: Instant,
    pub(crate) said: Arc<Mutex<Said>>,
}

impl Sandbox {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Its last words on standard error.
    pub(crate) fn errors(&self) -> String {
        self.said.lock().map(|said| said.errors.join("\n")).unwrap_or_default()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time of a process so far, all of its living threads; zero when it is gone.
pub(crate) fn cpu(id: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let spent = |task: fs::DirEntry| fs::read_to_string(task.path().join("schedstat")).ok()?.split(' ').next()?.parse::<u64>().ok();
    Duration::from_nanos(tasks.filter_map(spent).sum())
}

/// Memory of a process in KiB: `VmHWM` is the most so far, `VmRSS` what it has now.
pub(crate) fn memory(id: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// A function's share of a CPU as Lambda gives it by memory: 1,769 MB are one CPU, in periods of 20 ms.
pub(crate) struct Share {
    directory: PathBuf,
    /// Of the first version of cgroups: settings have other names there.
    first: bool,
    quota: u64,
}

impl Share {
    const PERIOD: u64 = 20_000; // microseconds

    /// A group of our own, without a limit as yet. Needs the right to make one, which usually is root's.
    pub(crate) fn of_memory(megabytes: u64) -> anyhow::Result<Share> {
        let quota = Share::PERIOD * megabytes / 1769;
        if quota < 1000 {
            bail!("a share of {megabytes} MB is less than the kernel can hold a process to; 89 MB and more can be");
        }
        let name = format!("stopwatch-{}", std::process::id());
        let mut refused = Vec::new();
        for (root, knob) in [("/sys/fs/cgroup/cpu", "cpu.cfs_quota_us"), ("/sys/fs/cgroup", "cpu.max")] {
            let directory = Path::new(root).join(&name);
            match fs::create_dir(&directory) {
                Ok(()) if directory.join(knob).exists() => return Ok(Share { directory, first: knob != "cpu.max", quota }),
                Ok(()) => {
                    let _ = fs::remove_dir(&directory);
                    refused.push(format!("{root} has no {knob}"));
                }
                Err(error) => refused.push(format!("{root}: {error}")),
            }
        }
        bail!("no CPU cgroup can be made here: {}", refused.join("; "))
    }

    fn take_in(&self, id: u32) -> anyhow::Result<()> {
        let file = self.directory.join("cgroup.procs");
        fs::write(&file, id.to_string()).with_context(|| file.display().to_string())
    }

    /// On: from now on. Off: no limit, as in init.
    pub(crate) fn limit(&self, on: bool) -> anyhow::Result<()> {
        let (quota, period) = (self.quota, Share::PERIOD);
        let set = |knob: &str, value: String| fs::write(self.directory.join(knob), value).with_context(|| knob.to_owned());
        if self.first {
            set("cpu.cfs_period_us", period.to_string())?;
            return set("cpu.cfs_quota_us", if on { quota.to_string() } else { "-1".into() });
        }
        set("cpu.max", if on { format!("{quota} {period}") } else { format!("max {period}") })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // The kernel takes a moment to see that a process is gone.
        for _ in 0..100 {
            if fs::remove_dir(&self.directory).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
