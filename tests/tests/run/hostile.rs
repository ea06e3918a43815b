//! Ways around the boundary that somebody has tried. What the command's user may read by its permissions is read here
//! as that user would read it.

use std::fs;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::chown;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use rig::command::{self, Output};
use rig::leash;
use rustix::process::Signal;

use crate::death::Running;
use crate::support::{Operator, cgroup_root, eventually};

/// `nobody`, whom the commands of this suite run as.
pub(crate) const NOBODY: u32 = 65534;
/// What must not be seen.
const SECRET: &str = "hunter2";

fn write_secret(path: &Path) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, SECRET)?;
    Ok(chown(path, Some(NOBODY), Some(NOBODY))?)
}

fn hides(output: &Output) -> Result<()> {
    let shown = output.stdout.contains(SECRET) || output.stderr.contains(SECRET);
    ensure!(!shown, "{output:?}");
    Ok(())
}

/// Runs a line under a guard that was started in a mount namespace where the script was run first.
pub(crate) fn with_mounts(operator: &Operator, script: &str, line: &[&str]) -> Result<Output> {
    let inner = operator.command(&["-q"], line)?;
    let mut outer = Command::new("unshare");
    outer.args(["-m", "/bin/sh", "-ec", &format!("{script}\nexec \"$@\""), "sh"]);
    outer.arg(inner.get_program()).args(inner.get_args());
    outer.current_dir(&operator.home).env_clear();
    outer.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command::run(outer)
}

#[test]
fn root_in_a_user_namespace_lifts_no_cover() -> Result<()> {
    let operator = Operator::new()?;
    write_secret(&operator.home.join(".aws/credentials"))?;
    let home = operator.home.display();
    let script = format!(
        "id -u; cd {home}; umount .aws; umount -l .kube; mount --bind . /mnt && cat /mnt/.aws/credentials; \
         mount --rbind . /mnt && umount /mnt/.aws; cat /mnt/.aws/credentials; mount -o remount,rw,bind .aws && touch .aws/x; \
         mkdir up work over; mount -t overlay overlay -o lowerdir=.,upperdir=up,workdir=work over && cat over/.aws/credentials; \
         cat .aws/credentials; nsenter -t 1 -m cat .aws/credentials; cat /proc/1/root/{home}/.aws/credentials; \
         ls .aws | wc -l"
    );
    let output = operator.run(&["-q"], &["unshare", "-Urmn", "/bin/sh", "-c", &script])?;
    hides(&output)?;
    ensure!(
        output.stdout == "0\n0\n",
        "root in there, and nothing new: {output:?}"
    );
    Ok(())
}

#[test]
fn a_covered_file_that_is_replaced_outside_ends_the_run() -> Result<()> {
    let operator = Operator::new()?;
    let file = operator.home.join("config.yaml");
    fs::rename(&operator.kubeconfig, &file)?;
    let mut command = operator.command(&["-q", "--kubeconfig", "config.yaml"], &[])?;
    command.args(["/bin/sh", "-c", "echo up; read word; echo went on"]);
    let mut running = Running::of(command)?;
    ensure!(running.line()? == "up");
    let stdin = running.guard.stdin.take();
    let next = operator.home.join("next.yaml");
    fs::copy(&file, &next)?;
    fs::rename(&next, &file)?;
    let ended = eventually("the end of the run", || running.guard.try_wait().ok()?)?;
    ensure!(ended.code() == Some(3), "{ended}");
    ensure!(running.line().is_err(), "and the command with it");
    drop(stdin);
    Ok(())
}

#[test]
fn a_second_name_of_a_covered_file_is_refused() -> Result<()> {
    let operator = Operator::new()?;
    chown(&operator.kubeconfig, Some(NOBODY), Some(NOBODY))?;
    fs::hard_link(&operator.kubeconfig, operator.home.join("second"))?;
    let output = operator.shell("cat second")?;
    ensure!(
        output.code == 3 && output.stderr.contains("hard link"),
        "{output:?}"
    );
    Ok(())
}

#[test]
fn a_descriptor_that_is_open_on_something_hidden_is_refused() -> Result<()> {
    let operator = Operator::new()?;
    write_secret(&operator.home.join(".aws/credentials"))?;
    for hidden in [".kube/config", ".aws", ".aws/credentials"] {
        let mut command = operator.command(&["-q"], &["cat"])?;
        command.stdin(fs::File::open(operator.home.join(hidden))?);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = leash::spawn(command)?.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(3) && said.contains("standard descriptor"),
            "{hidden}: {output:?}"
        );
        ensure!(output.stdout.is_empty(), "{hidden}: {output:?}");
    }
    Ok(())
}

#[test]
fn another_mount_of_hidden_files_is_hidden_too() -> Result<()> {
    let operator = Operator::new()?;
    write_secret(&operator.home.join(".aws/sso/token"))?;
    fs::create_dir(operator.home.join("part"))?;
    fs::create_dir(operator.home.join("all"))?;
    let script = "mount --bind .aws/sso part; mount --bind . all";
    let line = [
        "/bin/sh",
        "-c",
        "cat part/token all/.aws/sso/token all/.kube/config; ls part; echo looked",
    ];
    let output = with_mounts(&operator, script, &line)?;
    hides(&output)?;
    ensure!(!output.stdout.contains("client-key"), "{output:?}");
    ensure!(output.stdout.ends_with("looked\n"), "{output:?}");
    Ok(())
}

#[test]
fn another_proc_shows_no_process_even_from_below_another_mount() -> Result<()> {
    let operator = Operator::new()?;
    fs::create_dir(operator.home.join("other"))?;
    let script = "mount -t proc proc other; mount -t tmpfs none other; mount -t proc proc other";
    let line = ["/bin/sh", "-c", "ls other | grep -c '^[0-9]'"];
    let output = with_mounts(&operator, script, &line)?;
    ensure!(output.stdout == "0\n", "{output:?}");
    // The one below is uncovered by taking away what is on top, were it taken away without another look.
    let script = "mount -t proc proc other; mount -t proc proc other";
    let output = with_mounts(&operator, script, &line)?;
    ensure!(output.stdout == "0\n", "{output:?}");
    Ok(())
}

#[test]
fn sockets_of_the_users_other_programs_cannot_be_reached() -> Result<()> {
    let operator = Operator::new()?;
    let (theirs, others) = (operator.home.join("agent.1"), operator.home.join("system"));
    let _listeners = (UnixListener::bind(&theirs)?, UnixListener::bind(&others)?);
    chown(&theirs, Some(NOBODY), Some(NOBODY))?;
    fs::set_permissions(&others, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
    let script =
        "for name in agent.1 system; do curl -s --max-time 1 --unix-socket $name http://x/; echo $?; done";
    let output = operator.shell(script)?;
    ensure!(
        output.stdout == "7\n28\n",
        "no connection, and a silent one: {output:?}"
    );
    Ok(())
}

/// A socket that is reached and answers nobody lets curl give up after a second; one that is not is refused at once.
#[test]
fn abstract_sockets_of_programs_outside_cannot_be_reached() -> Result<()> {
    let operator = Operator::new()?;
    let name = format!("eks-guard-test-{}", std::process::id());
    let _listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
    let curl = format!("curl -s --max-time 1 --abstract-unix-socket {name} http://x/; echo $?");
    let mut outside = Command::new("/bin/sh");
    outside.args(["-c", &curl]);
    ensure!(command::run(outside)?.stdout == "28\n", "it is not there at all");
    let own = r#"perl -MSocket -e '
        my $own = pack_sockaddr_un("\0eks-guard-test-own-$$"); my ($listener, $client);
        socket($listener, AF_UNIX, SOCK_STREAM, 0); bind($listener, $own); listen($listener, 1);
        socket($client, AF_UNIX, SOCK_STREAM, 0); print connect($client, $own) ? "own" : $!;'"#;
    let output = operator.shell(&format!("{curl}; {own}"))?;
    ensure!(output.stdout == "7\nown", "{output:?}");
    Ok(())
}

/// Families that no hook of a cgroup sees, and the interface that makes sockets past every filter.
#[test]
fn other_families_of_sockets_and_io_uring_are_refused() -> Result<()> {
    let operator = Operator::new()?;
    let script = r#"
        for my $family (1, 2, 10, 16) { print socket(my $socket, $family, 2, 0) ? "made " : "$family: $! "; }
        for my $family (17, 21, 30, 33, 38, 40, 41, 43, 44) {
            print !socket(my $socket, $family, 1, 0) && $!{EAFNOSUPPORT} ? "refused " : "$family: $! ";
        }
        my $parameters = "\0" x 120;
        print syscall(425, 1, $parameters) < 0 && $!{ENOSYS} ? "no io_uring" : "io_uring: $!";"#;
    let output = operator.run(&["-q"], &["perl", "-e", script])?;
    let expected = ["made ".repeat(4), "refused ".repeat(9), "no io_uring".to_owned()].concat();
    ensure!(output.stdout == expected, "{output:?}");
    Ok(())
}

#[test]
fn files_that_variables_and_ssh_name_are_out_of_sight() -> Result<()> {
    let operator = Operator::new()?;
    let key = operator.home.join("key.json");
    write_secret(&key)?;
    write_secret(&operator.home.join(".ssh/id_ed25519"))?;
    let script = "cat key.json .ssh/id_ed25519; echo key >> .ssh/authorized_keys; env | grep DATA";
    let mut command = operator.command(&["-q"], &["/bin/sh", "-c", script])?;
    command
        .env("GOOGLE_APPLICATION_CREDENTIALS", &key)
        .env("KUBE_CONFIG_DATA", SECRET);
    let output = command::run(command)?;
    hides(&output)?;
    ensure!(output.stderr.contains("Read-only file system"), "{output:?}");
    Ok(())
}

#[test]
fn a_watch_ends_with_its_guard_and_nothing_reaches_the_api_server() -> Result<()> {
    let operator = Operator::new()?;
    let server = operator.cluster.server();
    let script = format!(
        "kubectl get namespaces --watch -o name | while read name; do echo $name; done; echo watch over; \
         for i in 1 2 3 4 5; do curl -sk -A runaway --max-time 5 https://{server}/version; echo $?; done"
    );
    let mut running = Running::start(&operator, &script)?;
    ensure!(running.line()?.starts_with("namespace/"));
    // Every start cleans up, those of the tests beside this one too; the lock under which they do it keeps them waiting.
    let gate = fs::File::open("/run/eks-guard/gate")?;
    gate.lock()?;
    let mark = operator.cluster.audit().mark()?;
    running.signal(Signal::KILL)?;
    while running.line()? != "watch over" {}
    for _ in 0..5 {
        ensure!(running.line()? == "7", "connection refused");
    }
    let events = operator.cluster.audit().since(mark)?;
    let strays: Vec<_> = events
        .iter()
        .filter(|event| event.user_agent.contains("runaway") || event.user == "system:anonymous")
        .collect();
    ensure!(strays.is_empty(), "{strays:?}");
    drop(gate);
    operator.shell("true")?.ok()?;
    nothing_left(&operator)
}

#[test]
fn nothing_is_left_behind_whichever_way_it_ends() -> Result<()> {
    let operator = Operator::new()?;
    operator.shell("exit 3")?;
    operator.shell("kill -9 $$")?;
    operator.run(&["-q"], &["/no/such/program"])?;
    operator.run(&["-q", "--context", "none"], &["true"])?;
    operator.shell("for i in 1 2 3 4 5 6 7 8; do (setsid sh -c 'kill -STOP $$' &); done; exit 4")?;
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut running = Running::start(&operator, "echo up; exec sleep 1000")?;
        ensure!(running.line()? == "up");
        running.signal(signal)?;
        running.code()?;
    }
    let second = operator.home.join("second");
    fs::hard_link(&operator.kubeconfig, &second)?;
    chown(&second, Some(NOBODY), Some(NOBODY))?;
    operator.shell("true")?.expect_failure("hard link")?;
    nothing_left(&operator)
}

/// Neither cgroup nor state folder of any run of this operator, whose sessions have left records.
fn nothing_left(operator: &Operator) -> Result<()> {
    let mut seen = 0;
    for record in fs::read_dir(operator.home.join("records"))? {
        let path = record?.path();
        let session = path.file_stem().context("records have names")?.to_owned();
        let places = [
            cgroup_root()?.join("eks-guard").join(&session),
            Path::new("/run/eks-guard").join(&session),
        ];
        eventually("the removal of what a run has made", || {
            places.iter().all(|place| !place.exists()).then_some(())
        })?;
        seen += 1;
    }
    ensure!(seen > 0, "no session has left a record");
    Ok(())
}
