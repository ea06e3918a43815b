//! Programs outside the boundary that would act for the command: what starts programs on demand, and what hands over
//! descriptors. Each test reaches them from outside first, or afterwards, with the very command that fails inside.

use std::fs;
use std::io::{IoSlice, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Context, Result, ensure};
use nix::libc::{SYS_pidfd_getfd, SYS_pidfd_send_signal, SYS_recvmsg, SYS_setns};
use rig::leash::Leashed;
use rig::{command, wait};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::death::Running;
use crate::session::{As, Session};
use crate::support::{Operator, eventually};

/// Says on which paths it was reached. `chmod`, because the sockets of some systems are open to everybody.
const LISTENER: &str = r#"
    use Socket; use IO::Select; $| = 1; $SIG{PIPE} = "IGNORE";
    my (%path, $select); $select = IO::Select->new;
    for my $path (@ARGV) {
        socket(my $socket, AF_UNIX, SOCK_STREAM, 0);
        bind($socket, pack_sockaddr_un($path)) && listen($socket, 8) && chmod(0666, $path) or die "$path: $!";
        $path{$socket} = $path; $select->add($socket);
    }
    print "listening\n";
    while (1) {
        for my $socket ($select->can_read) {
            accept(my $reached, $socket); print "reached $path{$socket}\n";
            sysread($reached, my $request, 1000); syswrite($reached, "HTTP/1.0 200 OK\r\n\r\n");
        }
    }"#;

/// Sockets of programs that run as root.
const OF_ROOT: [&str; 12] = [
    "/run/dbus/system_bus_socket",
    "/run/docker.sock",
    "/run/podman/podman.sock",
    "/run/containerd/containerd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/buildkit/buildkitd.sock",
    "/run/systemd/private",
    "/run/libvirt/libvirt-sock",
    "/run/snapd.socket",
    "/tmp/.X11-unix/X0",
    "/tmp/.ICE-unix/1",
];
/// Sockets of the user's own programs: session, container engines, keys, screens, editors.
const OF_USER: [&str; 13] = [
    "/run/user/65534/bus",
    "/run/user/65534/systemd/private",
    "/run/user/65534/wayland-0",
    "/run/user/65534/docker.sock",
    "/run/user/65534/podman/podman.sock",
    "/run/user/65534/gnupg/S.gpg-agent",
    "/run/user/65534/keyring/ssh",
    "/run/screen/S-nobody/1.pts-0",
    "/tmp/tmux-65534/default",
    "/tmp/ssh-abc/agent.7",
    "/tmp/dbus-abc",
    "/tmp/vscode-ipc-1.sock",
    "/tmp/user.sock",
];

/// A program that listens at these places, whose folders are made. `how` becomes it.
fn listen(session: &Session, who: As, how: &str, paths: &[&str]) -> Result<Leashed> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("listener-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let script = format!(
        "for path in {paths}; do mkdir -p $(dirname $path); done; {how} perl -e '{LISTENER}' {paths}",
        paths = paths.join(" ")
    );
    let mut program = session.start(&name, who, &["/bin/sh", "-ec", &script])?;
    wait::until("it listens", || {
        program.check_alive()?;
        Ok(fs::read_to_string(program.log())?.contains("listening"))
    })?;
    Ok(program)
}

/// How often these programs were reached.
fn reached(programs: &[Leashed]) -> Result<usize> {
    let said = programs
        .iter()
        .map(|program| Ok(fs::read_to_string(program.log())?));
    said.map(|said: Result<String>| Ok(said?.matches("reached").count()))
        .sum()
}

#[test]
fn nothing_that_acts_for_the_user_is_reached_wherever_it_listens() -> Result<()> {
    let operator = Operator::new()?;
    let session = Session::of(&operator)?;
    let in_home = ["run/docker.sock", "gnupg/S.gpg-agent", "network", "far/relative"];
    let in_home = in_home.map(|path| format!("{}/.{path}", operator.home.display()));
    let [docker, gpg, network, relative] = in_home.each_ref().map(String::as_str);
    let user: Vec<&str> = OF_USER.into_iter().chain([docker, gpg]).collect();
    let elsewhere = "exec unshare --net setpriv --reuid 65534 --clear-groups";
    let listeners = [
        listen(&session, As::Root, "exec", &OF_ROOT)?,
        listen(&session, As::Nobody, "exec", &user)?,
        listen(&session, As::Root, elsewhere, &[network])?,
        listen(&session, As::Nobody, "mkdir .far; cd .far; exec", &["relative"])?,
    ];
    let all: Vec<&str> = OF_ROOT
        .into_iter()
        .chain(user)
        .chain([network, relative])
        .collect();
    let expected = |code: &str| -> String { all.iter().map(|path| format!("{path} {code}\n")).collect() };
    let script = format!(
        "for path in {}; do curl -s --max-time 1 --unix-socket $path http://x/; echo $path $?; done",
        all.join(" ")
    );
    let inside = command::run(session.guarded(&operator, &script)?)?;
    ensure!(inside.stdout == expected("7"), "{inside:?}");
    ensure!(reached(&listeners)? == 0, "reached from inside");
    let outside = session.run(As::Nobody, &["/bin/sh", "-c", &script])?;
    ensure!(outside.stdout == expected("0"), "not there at all: {outside:?}");
    ensure!(reached(&listeners)? == all.len(), "not all of them");
    Ok(())
}

#[test]
fn a_key_agent_shows_the_command_no_key() -> Result<()> {
    let operator = Operator::new()?;
    let session = Session::of(&operator)?;
    let _agent = session.start(
        "agent",
        As::Nobody,
        &["ssh-agent", "-D", "-a", "/tmp/ssh-agent.sock"],
    )?;
    let script = "SSH_AUTH_SOCK=/tmp/ssh-agent.sock ssh-add -l; echo $?";
    // 1: it has no keys; 2: there is no agent.
    wait::until("the key agent answers", || {
        let answer = session.run(As::Nobody, &["/bin/sh", "-c", script])?;
        Ok(answer.stdout.ends_with("1\n"))
    })?;
    let inside = command::run(session.guarded(&operator, script)?)?;
    ensure!(inside.stdout == "2\n", "{inside:?}");
    Ok(())
}

/// Orders by the bus, by the manager's private socket, and in the way of its own client. `$1` is what they would leave.
const ORDERS: &str = r#"order() {
    export XDG_RUNTIME_DIR=/run/user/65534
    systemd-run --user --wait --quiet touch $PWD/$1-private; echo $?
    DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/65534/bus systemd-run --user --wait --quiet touch $PWD/$1-bus; echo $?
    dbus-send --bus=unix:path=/run/user/65534/bus --print-reply --dest=org.freedesktop.systemd1 /org/freedesktop/systemd1 \
        org.freedesktop.systemd1.Manager.SetEnvironment array:string:EKS=$1 > /dev/null; echo $?
}"#;

#[test]
fn the_users_service_manager_takes_no_orders_whenever_it_was_started() -> Result<()> {
    let operator = Operator::new()?;
    let session = Session::of(&operator)?;
    // The first command is there before the manager is.
    let script = format!("{ORDERS}\nread go; order inside 2> /dev/null");
    let mut early = Running::of(session.guarded(
        &operator,
        &format!("touch /run/user/65534/own && echo up; {script}"),
    )?)?;
    ensure!(early.line()? == "up");
    let _manager = session.start_manager()?;
    let script = format!("{ORDERS}\norder outside");
    let outside = session.run(As::Nobody, &["/bin/sh", "-c", &script])?;
    ensure!(outside.stdout == "0\n0\n0\n", "{outside:?}");
    let mut late = Running::of(session.guarded(
        &operator,
        &format!("{ORDERS}\nread go; order inside 2> /dev/null"),
    )?)?;
    for running in [&mut early, &mut late] {
        running.guard.stdin.take().context("stdin")?.write_all(b"go\n")?;
        let said = (0..3).map(|_| running.line()).collect::<Result<Vec<_>>>()?;
        ensure!(said == ["1", "1", "1"], "{said:?}");
        ensure!(running.code()? == Some(0));
    }
    let made = |name: &str| operator.home.join(name).exists();
    ensure!(made("outside-private") && made("outside-bus"));
    ensure!(!made("inside-private") && !made("inside-bus"));
    let variables = session
        .run(As::Nobody, &["systemctl", "--user", "show-environment"])?
        .ok()?;
    ensure!(variables.contains("EKS=outside"), "{variables}");
    Ok(())
}

const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path=HOME/bus</listen>
  <listen>unix:abstract=HOME/bus</listen>
  <servicedir>HOME/services</servicedir>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
  </policy>
</busconfig>"#;

#[test]
fn a_session_bus_starts_no_program_for_the_command() -> Result<()> {
    let operator = Operator::new()?;
    let session = Session::of(&operator)?;
    let home = operator.home.display().to_string();
    fs::write(operator.home.join("bus.xml"), BUS.replace("HOME", &home))?;
    fs::create_dir(operator.home.join("services"))?;
    for way in ["path", "abstract"] {
        let service = format!(
            "[D-BUS Service]\nName=guard.{way}\nExec=/bin/sh -c 'touch {home}/started-{way}; exit 1'\n"
        );
        fs::write(
            operator.home.join(format!("services/guard.{way}.service")),
            service,
        )?;
    }
    let file = format!("--config-file={home}/bus.xml");
    let _bus = session.start(
        "bus",
        As::Nobody,
        &["dbus-daemon", "--nofork", "--nopidfile", &file],
    )?;
    eventually("the bus", || operator.home.join("bus").exists().then_some(()))?;
    let started = |way: &str| operator.home.join(format!("started-{way}")).exists();
    let script = "for way in path abstract; do dbus-send --bus=unix:$way=$PWD/bus --print-reply --dest=org.freedesktop.DBus / \
                  org.freedesktop.DBus.StartServiceByName string:guard.$way uint32:0 2>&1 | grep -c 'Failed to open connection'; done";
    let inside = command::run(session.guarded(&operator, script)?)?;
    ensure!(inside.stdout == "1\n1\n", "{inside:?}");
    ensure!(!started("path") && !started("abstract"));
    let outside = session.run(As::Nobody, &["/bin/sh", "-c", script])?;
    ensure!(outside.stdout == "0\n0\n", "{outside:?}");
    eventually("the started programs", || {
        (started("path") && started("abstract")).then_some(())
    })
}

/// A terminal multiplexer inside is the command's own; one outside hears nothing, although it was started later.
#[test]
fn a_terminal_multiplexer_outside_takes_no_orders_whenever_it_was_started() -> Result<()> {
    let operator = Operator::new()?;
    let session = Session::of(&operator)?;
    let script = "echo up; read go; export TERM=dumb SHELL=/bin/sh; tmux new-session -d 'grep ^0:: /proc/self/cgroup > cgroup; sleep 600'; \
                  until test -s cgroup; do sleep 0.02; done; tmux list-sessions -F '#{session_name}'; cat cgroup; rm cgroup";
    let mut early = Running::of(session.guarded(&operator, script)?)?;
    ensure!(early.line()? == "up");
    let _server = session.start("tmux", As::Nobody, &["tmux", "-D"])?;
    let list = ["tmux", "list-sessions"];
    eventually("the multiplexer", || {
        let place = session.run(As::Nobody, &["test", "-S", "/tmp/tmux-65534/default"]);
        (place.ok()?.code == 0).then_some(())
    })?;
    let mut late = Running::of(session.guarded(&operator, script)?)?;
    ensure!(late.line()? == "up");
    for running in [&mut early, &mut late] {
        running.guard.stdin.take().context("stdin")?.write_all(b"go\n")?;
        ensure!(running.line()? == "0", "the first session of its own server");
        let cgroup = running.line()?;
        ensure!(cgroup.contains("/eks-guard/"), "{cgroup}");
        ensure!(running.code()? == Some(0));
        let sessions = session.run(As::Nobody, &list)?;
        ensure!(sessions.stdout.is_empty(), "{sessions:?}");
    }
    session.run(As::Nobody, &["tmux", "new-session", "-d"])?.ok()?;
    ensure!(
        session.run(As::Nobody, &list)?.ok()?.starts_with("0: "),
        "it takes orders"
    );
    Ok(())
}

/// What no kernel of today lets the guard see: who hands descriptors over must be trusted. Sockets of other users that are open
/// to everybody, and those that the user binds later, are in reach; this is one of the first kind.
#[test]
fn a_connection_that_a_program_outside_hands_over_is_not_judged() -> Result<()> {
    let operator = Operator::new()?;
    let place = operator.home.join("hands");
    let listener = UnixListener::bind(&place)?;
    fs::set_permissions(&place, fs::Permissions::from_mode(0o777))?;
    let server = operator.cluster.server();
    let hands = thread::spawn(move || -> Result<()> {
        let (receiver, _) = listener.accept()?;
        let connection = TcpStream::connect(server)?;
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [connection.as_fd()];
        ensure!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        sendmsg(&receiver, &[IoSlice::new(b"x")], &mut control, SendFlags::empty())?;
        Ok(())
    });
    let script = format!(
        r#"use Socket; socket(my $unix, AF_UNIX, SOCK_STREAM, 0); connect($unix, pack_sockaddr_un("hands")) or die "connect: $!";
        my ($data, $control) = ("\0", "\0" x 24); my $vector = pack("PQ", $data, 1);
        my $message = pack("Q L x4 P Q P Q L x4", 0, 0, $vector, 1, $control, 24, 0);
        syscall({SYS_recvmsg}, fileno($unix), $message, 0) == 1 or die "recvmsg: $!";
        open(my $tcp, "+<&=", unpack("x16 l", $control)) or die "open: $!";
        syswrite($tcp, "GET /version HTTP/1.0\r\n\r\n"); sysread($tcp, my $answer, 1000); print $answer;"#
    );
    let output = operator.run(&["-q"], &["perl", "-e", &script])?;
    // The API server itself, in plain text to a port of TLS.
    ensure!(
        output.stdout.contains("HTTP request to an HTTPS server"),
        "{output:?}"
    );
    hands.join().ok().context("the program outside panicked")?
}

/// Whoever reaches a socket of the same user gets a descriptor of the process behind it. It opens nothing.
#[test]
fn a_process_outside_is_neither_robbed_nor_signalled_nor_entered() -> Result<()> {
    let operator = Operator::new()?;
    let session = Session::of(&operator)?;
    let script = format!(
        r#"use Socket; $| = 1; print "up\n"; readline(STDIN);
        socket(my $unix, AF_UNIX, SOCK_STREAM, 0); connect($unix, pack_sockaddr_un("late.sock")) or die "connect: $!";
        my $process = unpack("l", getsockopt($unix, SOL_SOCKET, 77)); my @names = qw(robbed signalled entered);
        for my $call ([{SYS_pidfd_getfd}, $process, 1, 0], [{SYS_pidfd_send_signal}, $process, 0, 0, 0],
                      [{SYS_setns}, $process, 0x20000000]) {{
            my $answer = syscall($call->[0], @$call[1 .. $#$call]);
            print shift(@names), " ", $answer < 0 ? $! + 0 : "done", "\n";
        }}"#
    );
    let mut running = Running::of(session.guarded(&operator, &format!("exec perl -e '{script}'"))?)?;
    ensure!(running.line()? == "up");
    let _later = listen(&session, As::Nobody, "exec", &["late.sock"])?;
    running.guard.stdin.take().context("stdin")?.write_all(b"\n")?;
    let said = (0..3).map(|_| running.line()).collect::<Result<Vec<_>>>()?;
    ensure!(said == ["robbed 38", "signalled 22", "entered 1"], "{said:?}");
    let outside = session.run(As::Root, &["perl", "-e", &script])?.ok()?;
    ensure!(
        outside == "up\nrobbed done\nsignalled done\nentered done\n",
        "{outside}"
    );
    Ok(())
}
