//! Processes on either side of the boundary: this test binary, started again with one instruction in its environment.
//! A probe enters its cgroup, does what it is told, and prints one line that begins with `probe: `.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use eks_guard_core::catalogue::probe::Plan;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, Protocol, SendFlags, SocketType, connect, connect_unspec, sendto, socket};
use socket2::{Domain, Socket, Type};

use crate::world::PATIENCE;

const WHAT: &str = "EKS_GUARD_PROBE";
const PROCS: &str = "EKS_GUARD_PROBE_PROCS";
const MSG_FASTOPEN: SendFlags = SendFlags::from_bits_retain(0x2000_0000);

/// A started probe; dropping it kills it.
pub(crate) struct Probe {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Probe {
    /// Starts a probe that enters the cgroup of `procs` first.
    pub(crate) fn start(procs: Option<&Path>, what: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([
            "--exact",
            "probe_child",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ]);
        command
            .env(WHAT, what)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some(procs) = procs {
            command.env(PROCS, procs);
        }
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        Self { child, stdin }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends a waiting probe; the last line it prints.
    pub(crate) fn finish(mut self) -> String {
        self.stdin = None;
        let line = self.line();
        self.child.wait().unwrap();
        line
    }

    /// The next line it prints, while it goes on.
    pub(crate) fn line(&mut self) -> String {
        let stdout = self.child.stdout.as_mut().unwrap();
        let mut text = String::new();
        let mut byte = [0_u8];
        // Byte by byte: what follows the line must stay in the pipe.
        while stdout.read(&mut byte).unwrap() == 1 {
            text.push(char::from(byte[0]));
            if byte[0] == b'\n' {
                if let Some(at) = text.find("probe: ") {
                    return text[at + 7..].trim_end().to_owned();
                }
                text.clear();
            }
        }
        panic!("the probe printed nothing");
    }

    /// Hands a waiting probe one line; the line it answers.
    pub(crate) fn ask(&mut self, line: &str) -> String {
        let stdin = self.stdin.as_mut().unwrap();
        writeln!(stdin, "{line}").unwrap();
        self.line()
    }

    /// Kills it as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Keeps its standard input open beyond it.
    pub(crate) fn take_stdin(&mut self) -> ChildStdin {
        self.stdin.take().unwrap()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _reaped_already = self.child.wait();
    }
}

/// Starts the probe program in a cgroup, as root with every capability, on one route.
pub(crate) fn program(procs: &Path, id: &str, plan: &Plan) -> Child {
    let script = "echo 0 > \"$1\" && exec \"$2\" \"$3\"";
    let mut child = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(procs)
        .arg(rig::programs::probe().unwrap())
        .arg(id)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let plan = serde_json::to_string(plan).unwrap();
    writeln!(child.stdin.as_mut().unwrap(), "{plan}").unwrap();
    child
}

/// The child's side. Without an instruction there is nothing to do.
#[expect(
    clippy::disallowed_methods,
    reason = "the instruction comes through the environment"
)]
pub(crate) fn child() {
    let Ok(what) = std::env::var(WHAT) else { return };
    if let Ok(procs) = std::env::var(PROCS) {
        fs::write(procs, "0").unwrap();
    }
    let words: Vec<&str> = what.split(' ').collect();
    let line = match perform(&words) {
        Ok(line) => line,
        Err(error) => format!("error {}", name(&error)),
    };
    println!("probe: {line}");
}

#[expect(
    clippy::disallowed_methods,
    reason = "the instruction comes through the environment"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Leaves the guarded cgroup, as only root can, for the one that holds those of all runs.
fn leave() -> io::Result<()> {
    let procs = PathBuf::from(variable(PROCS).unwrap());
    let all_runs = procs.parent().and_then(Path::parent).unwrap();
    fs::write(all_runs.join("cgroup.procs"), "0")
}

fn perform(words: &[&str]) -> io::Result<String> {
    match *words {
        ["tcp", to] => answer(TcpStream::connect(address(to))?),
        ["bound", from, to] => {
            let socket = tcp(address(to))?;
            rustix::net::bind(&socket, &address(from))?;
            connect(&socket, &address(to))?;
            answer(socket.into())
        }
        ["fastopen", to] => {
            let socket = tcp(address(to))?;
            sendto(&socket, b"early", MSG_FASTOPEN, &address(to))?;
            // Connected when the answer is there.
            let timeout = Timespec::try_from(PATIENCE).map_err(io::Error::other)?;
            poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&timeout))?;
            answer(socket.into())
        }
        ["udp-connect", to] => {
            udp(address(to))?.connect(address(to))?;
            Ok("connected".to_owned())
        }
        ["udp-send", to] => {
            udp(address(to))?.send_to(b"x", address(to))?;
            Ok("sent".to_owned())
        }
        ["udp-flood", to] => {
            let socket = udp(address(to))?;
            let refused = (0..200)
                .filter(|_| socket.send_to(b"x", address(to)).is_err())
                .count();
            Ok(format!("refused {refused}"))
        }
        ["own-name", to] => {
            let stream = TcpStream::connect(address(to))?;
            Ok(format!("own {}", stream.local_addr()?.ip()))
        }
        ["serve", port] => {
            let listener = TcpListener::bind(("0.0.0.0", port.parse().unwrap()))?;
            println!("probe: ready");
            listener.accept()?.0.write_all(b"pod\n")?;
            Ok("served".to_owned())
        }
        ["serve-without-room", port] => serve_without_room(port.parse().unwrap()),
        ["udp-until-told", to] => udp_until_told(address(to)),
        ["reconnect", first, second] => reconnect(address(first), address(second)),
        ["hold", to] => {
            let _held = TcpStream::connect(address(to))?;
            println!("probe: connected");
            wait_for_end_of_stdin()?;
            Ok("closed".to_owned())
        }
        ["leave", to] => {
            let socket = tcp(address(to))?;
            leave()?;
            connect(&socket, &address(to))?;
            answer(socket.into())
        }
        ["unprivileged-load", run_id] => Ok(crate::loading::unprivileged_load(run_id)),
        ["load", run_id] => crate::killed_loader(run_id),
        _ => past_the_connect_hooks(words),
    }
}

/// A listener without room for anything that a program keeps in it, until the test says something.
fn serve_without_room(port: u16) -> io::Result<String> {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let filter = rig::options::largest().map_err(io::Error::other)?;
    listener.attach_filter(&filter)?;
    listener.bind(&SocketAddr::from(([0, 0, 0, 0], port)).into())?;
    listener.listen(1)?;
    println!("probe: ready");
    io::stdin().read_line(&mut String::new())?;
    listener.detach_filter()?;
    println!("probe: room");
    listener.accept()?.0.write_all(b"pod\n")?;
    Ok("served".to_owned())
}

/// Sockets and packets that connect() and sendto() say nothing about.
fn past_the_connect_hooks(words: &[&str]) -> io::Result<String> {
    match *words {
        ["socket", family, kind, protocol] => {
            raw_socket(number(family), number(kind), number(protocol)).map(|_| "made".to_owned())
        }
        ["packets", family] => packets(number(family)),
        ["frames"] => frames("wire"),
        ["frames-on", interface] => frames(interface),
        ["from-another-network", times, to] => {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?;
            rig::netns::ip("link set lo up").map_err(io::Error::other)?;
            refused(number(times), address(to))
        }
        ["cable", number] => cable_into(number.parse().unwrap()),
        ["early-tcp", to] => {
            let mut stream = TcpStream::connect(address(to))?;
            for_each_line(|line| stream.write_all(line.as_bytes()).map(|()| "written".to_owned()))
        }
        ["early-datagram", protocol, to] => {
            let socket = datagram(address(to), number(protocol))?;
            connect(&socket, &address(to))?;
            for_each_line(|line| Ok(rustix::io::write(&socket, line.as_bytes()).map(|_| "sent".to_owned())?))
        }
        ["datagram-of", size, to] => {
            udp(address(to))?.send_to(&vec![b'x'; size.parse().unwrap()], address(to))?;
            Ok("sent".to_owned())
        }
        ["ping", to] => {
            let protocol = if address(to).is_ipv4() { 1 } else { 58 };
            let request = if address(to).is_ipv4() { 8 } else { 128 };
            let socket = datagram(address(to), protocol)?;
            let echo = [request, 0, 0, 0, 0, 0, 0, 1];
            sendto(&socket, &echo, SendFlags::empty(), &address(to))?;
            Ok("sent".to_owned())
        }
        ["enter", procs, to] => {
            let socket = udp(address(to))?;
            fs::write(procs, "0")?;
            socket.send_to(b"x", address(to))?;
            Ok("sent".to_owned())
        }
        _ => panic!("unknown probe {words:?}"),
    }
}

/// Sends whole packets, headers included: each line is a destination and the bytes in hexadecimal.
fn packets(family: u32) -> io::Result<String> {
    const RAW: u32 = 3;
    const IPPROTO_RAW: u32 = 255;
    let socket = raw_socket(family, RAW, IPPROTO_RAW)?;
    for_each_line(|line| {
        let (to, hex) = line.split_once(' ').unwrap();
        let bytes = unhex(hex);
        let to = SocketAddr::new(to.parse().unwrap(), 0);
        sendto(&socket, &bytes, SendFlags::empty(), &to)?;
        Ok("sent".to_owned())
    })
}

/// Puts whole frames on an interface, past every hook of a socket: each line is one in hexadecimal.
fn frames(name: &str) -> io::Result<String> {
    use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, sendto, socket};
    let wire = nix::ifaddrs::getifaddrs()?
        .filter(|interface| interface.interface_name == name)
        .find_map(|interface| interface.address?.as_link_addr().copied())
        .unwrap();
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None)?;
    for_each_line(|line| {
        sendto(socket.as_raw_fd(), &unhex(line), &wire, MsgFlags::empty())?;
        Ok("sent".to_owned())
    })
}

/// Connects sockets, one after the other, and keeps all of them; how many were refused.
fn refused(times: u32, to: SocketAddr) -> io::Result<String> {
    let sockets: Vec<OwnedFd> = (0..times).map(|_| tcp(to)).collect::<io::Result<_>>()?;
    let outcomes = sockets.iter().map(|socket| connect(socket, &to));
    let refused = outcomes.filter(|outcome| *outcome == Err(rustix::io::Errno::CONNREFUSED));
    println!("probe: refused {}", refused.count());
    wait_for_end_of_stdin()?;
    Ok("closed".to_owned())
}

/// Makes a cable from here into the network namespace that has this number here: `inner` on this side, `cable` on the other.
fn cable_into(number: i32) -> io::Result<String> {
    use crate::netlink::{State, attribute, link, new_link};
    const IFNAME: u16 = 3;
    const LINKINFO: u16 = 18;
    const TARGET_NETNSID: u16 = 46;
    let peer = [link(State::Down), attribute(IFNAME, b"inner\0")].concat();
    let data = attribute(2, &attribute(1, &peer));
    let info = [attribute(1, b"veth\0"), data].concat();
    let request = [
        link(State::Up),
        attribute(IFNAME, b"cable\0"),
        attribute(TARGET_NETNSID, &number.to_ne_bytes()),
        attribute(LINKINFO, &info),
    ];
    new_link(&request.concat())?;
    Ok("made".to_owned())
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2)
        .map(|at| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).unwrap())
        .collect()
}

/// Says that it is ready; then one answer for each line, until there are no more.
fn for_each_line(mut act: impl FnMut(&str) -> io::Result<String>) -> io::Result<String> {
    println!("probe: ready");
    for line in io::stdin().lines() {
        match act(&line?) {
            Ok(answer) => println!("probe: {answer}"),
            Err(error) => println!("probe: error {}", name(&error)),
        }
    }
    Ok("closed".to_owned())
}

fn raw_socket(family: u32, kind: u32, protocol: u32) -> io::Result<OwnedFd> {
    let family = AddressFamily::from_raw(family.try_into().unwrap());
    let protocol = NonZeroU32::new(protocol).map(Protocol::from_raw);
    Ok(socket(family, SocketType::from_raw(kind), protocol)?)
}

fn datagram(to: SocketAddr, protocol: u32) -> io::Result<OwnedFd> {
    let family = if to.is_ipv4() { 2 } else { 10 };
    raw_socket(family, 2, protocol)
}

fn number(text: &str) -> u32 {
    text.parse().unwrap()
}

/// Sends for as long as the test lets it.
fn udp_until_told(to: SocketAddr) -> io::Result<String> {
    let socket = udp(to)?;
    let (mut reached, mut refused) = (0_u64, 0_u64);
    let stdin = io::stdin();
    println!("probe: trying");
    loop {
        match socket.send_to(b"x", to) {
            Ok(_) => reached += 1,
            Err(_) => refused += 1,
        }
        // Readable is the end of the pipe: the test writes nothing.
        let told = poll(
            &mut [PollFd::new(&stdin, PollFlags::IN)],
            Some(&Timespec::default()),
        )?;
        if told > 0 {
            return Ok(format!("reached {reached} refused {refused}"));
        }
    }
}

/// One socket, two destinations: the second must not look like the first.
fn reconnect(first: SocketAddr, second: SocketAddr) -> io::Result<String> {
    let socket = tcp(first)?;
    connect(&socket, &first)?;
    println!("probe: {}", answer(socket.try_clone()?.into())?);
    connect_unspec(&socket)?;
    connect(&socket, &second)?;
    answer(socket.into())
}

fn answer(stream: TcpStream) -> io::Result<String> {
    let peer = stream.peer_addr()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(format!("peer {peer} answer {}", line.trim_end()))
}

/// Returns when the test closes the pipe.
pub(crate) fn wait_for_end_of_stdin() -> io::Result<()> {
    io::stdout().flush()?;
    io::stdin().read_to_end(&mut Vec::new()).map(|_| ())
}

fn tcp(to: SocketAddr) -> io::Result<OwnedFd> {
    let family = if to.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    Ok(socket(family, SocketType::STREAM, None)?)
}

fn udp(to: SocketAddr) -> io::Result<UdpSocket> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    UdpSocket::bind(address(any))
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn name(error: &io::Error) -> String {
    match error.raw_os_error().map(nix::errno::Errno::from_raw) {
        Some(errno) => format!("{errno:?}"),
        None => error.to_string(),
    }
}
