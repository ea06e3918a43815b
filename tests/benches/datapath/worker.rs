//! A process in the cgroup and the network of a pod. It does what a line of its standard input says, and answers with a line of
//! figures: the same code for every pod, guarded or not.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rig::leash;
use rig::place::Place;
use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};
use rustix::process::{Signal, kill_process, setpriority_process};
use rustix::thread::{CpuSet, gettid, sched_setaffinity};

/// Bytes that a stream writes at once.
const CHUNK: usize = 64 << 10;
/// Chunks of a part of a stream that has a time of its own: several times what buffers on the way hold.
const CHUNKS: usize = 256;
/// On the scale of nice(1), where there is no real-time scheduling.
const PRIORITY: i32 = -15;
/// Connections of a burst that are made at the same time.
const CALLERS: usize = 4;

/// The worker, seen from the bench. Killed when dropped.
pub(crate) struct Worker {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts one in a pod.
    pub(crate) fn start(cgroup: &Path, netns: &Path) -> Result<Self> {
        let place = Place {
            cgroup: Some(cgroup.to_owned()),
            netns: Some(netns.to_owned()),
            ..Place::default()
        };
        let mut command = leash::hold_in(&place, &std::env::current_exe()?)?;
        command.arg("worker").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = leash::spawn(command).context("starting a worker")?;
        Ok(Self {
            orders: child.stdin.take().context("piped")?,
            answers: BufReader::new(child.stdout.take().context("piped")?),
            child,
        })
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Nanoseconds of a connect(), and of a connection from socket() to close(), of `count` that are made.
    pub(crate) fn connections(&mut self, to: SocketAddr, count: usize) -> Result<(f64, f64)> {
        match self.ask(&format!("connections {to} {count}"))?[..] {
            [connect, whole] => Ok((connect, whole)),
            _ => bail!("a worker's answer is not two figures"),
        }
    }

    /// Nanoseconds of a datagram, of `count` that are sent.
    pub(crate) fn datagrams(&mut self, to: SocketAddr, count: usize) -> Result<f64> {
        self.figure(&format!("datagrams {to} {count}"))
    }

    /// Bytes per second of one TCP stream.
    pub(crate) fn stream(&mut self, to: SocketAddr, length: Duration) -> Result<f64> {
        self.figure(&format!("stream {to} {}", length.as_millis()))
    }

    /// Makes `count` connections, several at a time, each open until the other side closes it; how many there were a second.
    pub(crate) fn burst(&mut self, to: SocketAddr, count: usize) -> Result<f64> {
        self.figure(&format!("burst {to} {count}"))
    }

    /// The same with callers who say at once that they will not speak.
    pub(crate) fn knocks(&mut self, to: SocketAddr, count: usize) -> Result<f64> {
        self.figure(&format!("knocks {to} {count}"))
    }

    fn figure(&mut self, order: &str) -> Result<f64> {
        match self.ask(order)?[..] {
            [figure] => Ok(figure),
            _ => bail!("a worker's answer is not one figure"),
        }
    }

    fn ask(&mut self, order: &str) -> Result<Vec<f64>> {
        writeln!(self.orders, "{order}").context("a worker is gone; its words are above")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        ensure!(!answer.is_empty(), "a worker is gone; its words are above");
        let words = answer.split_whitespace().map(str::parse);
        words
            .collect::<Result<_, _>>()
            .context("reading a worker's answer")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Gone already, or about to be.
        kill_process(rustix::process::Pid::from_child(&self.child), Signal::KILL).ok();
        self.child.wait().ok();
    }
}

/// The worker's side: serves until its standard input ends.
#[expect(clippy::print_stdout, reason = "answers go there")]
pub(crate) fn serve() -> Result<()> {
    run_on(0)?;
    for order in std::io::stdin().lines() {
        let order = order?;
        let words: Vec<&str> = order.split(' ').collect();
        let [what, to, number] = words[..] else {
            bail!("not an order: {order}");
        };
        let (to, number): (SocketAddr, usize) = (to.parse()?, number.parse()?);
        let figures = match what {
            "connections" => connections(to, number)?,
            "datagrams" => vec![datagrams(to, number)?],
            "stream" => vec![stream(to, Duration::from_millis(number as u64))?],
            "burst" => vec![burst(to, number, wait)?],
            "knocks" => vec![burst(to, number, knock)?],
            _ => bail!("not an order: {order}"),
        };
        let figures: Vec<String> = figures.iter().map(ToString::to_string).collect();
        println!("{}", figures.join(" "));
    }
    Ok(())
}

/// Keeps this thread and those it starts on one processor, before all others there: the next is for who answers. On a machine
/// that has other work, who is woken would wait for the end of a time slice otherwise.
pub(crate) fn run_on(processor: usize) -> Result<()> {
    let thread = gettid().as_raw_nonzero().to_string();
    let real_time = Command::new("chrt")
        .args(["--rr", "--pid", "1", &thread])
        .stderr(Stdio::null())
        .status();
    if !real_time.is_ok_and(|status| status.success()) {
        setpriority_process(None, PRIORITY).context("asking for priority, which needs root")?;
    }
    let mut set = CpuSet::new();
    set.set(processor % thread::available_parallelism()?.get());
    sched_setaffinity(None, &set).context("choosing a processor")
}

fn connections(to: SocketAddr, count: usize) -> Result<Vec<f64>> {
    let family = if to.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let (mut connects, mut wholes) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for _ in 0..count {
        let begin = Instant::now();
        let socket = socket(family, SocketType::STREAM, None)?;
        // Closed with a reset: no port stays behind and waits, here or below.
        sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
        let before = Instant::now();
        connect(&socket, &to).with_context(|| format!("connecting to {to}"))?;
        connects.push(before.elapsed().as_nanos() as f64);
        drop(socket);
        wholes.push(begin.elapsed().as_nanos() as f64);
    }
    Ok(vec![undisturbed(connects), undisturbed(wholes)])
}

fn datagrams(to: SocketAddr, count: usize) -> Result<f64> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(to)?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let begin = Instant::now();
        socket.send(b"x")?;
        times.push(begin.elapsed().as_nanos() as f64);
    }
    Ok(undisturbed(times))
}

/// What something takes while nobody else wants the processor or its caches: the tenth part of the times is shorter.
fn undisturbed(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 10).copied().unwrap_or(f64::NAN)
}

fn stream(to: SocketAddr, length: Duration) -> Result<f64> {
    let mut stream = TcpStream::connect(to)?;
    let chunk = vec![0; CHUNK];
    let (begin, mut times) = (Instant::now(), Vec::new());
    while begin.elapsed() < length {
        let part = Instant::now();
        for _ in 0..CHUNKS {
            stream.write_all(&chunk)?;
        }
        times.push(part.elapsed().as_secs_f64());
    }
    Ok((CHUNKS * CHUNK) as f64 / undisturbed(times))
}

/// Until the other side closes; then with a reset, so that no port stays behind and waits.
fn wait(stream: &mut TcpStream) -> Result<()> {
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    ensure!(stream.read(&mut [0])? == 0, "the listener spoke");
    Ok(())
}

fn knock(stream: &mut TcpStream) -> Result<()> {
    stream.shutdown(Shutdown::Write)?;
    wait(stream)
}

fn burst(to: SocketAddr, count: usize, call: fn(&mut TcpStream) -> Result<()>) -> Result<f64> {
    let left = AtomicUsize::new(count);
    let caller = || -> Result<()> {
        while left
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok()
        {
            call(&mut TcpStream::connect(to)?)?;
        }
        Ok(())
    };
    let begin = Instant::now();
    thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(caller)).collect();
        callers
            .into_iter()
            .try_for_each(|caller| caller.join().unwrap_or_else(|_| bail!("a caller panicked")))
    })?;
    Ok(count as f64 / begin.elapsed().as_secs_f64())
}
