//! The programs that are compared: one upstream (nginx with TLS and static files) and the proxies in front of it.
//! Every proxy ends TLS, verifies the upstream certificate, keeps connections alive, adds one header, buffers nothing.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::bench::load::{self, Load, Shape};
use crate::bench::process::Program;
use crate::wait;

/// CPU of the proxy under measurement.
pub const PROXY_CPU: u32 = 0;
/// What the upstream says that it serves, as far as it is asked for.
const CORE: &str = r#"{"kind":"APIGroupDiscoveryList","items":[{"versions":[{"version":"v1","resources":[{"resource":"configmaps","scope":"Namespaced"},{"resource":"pods","scope":"Namespaced"},{"resource":"nodes","scope":"Cluster"}]}]}]}"#;
const GROUPS: &str = r#"{"kind":"APIGroupDiscoveryList","items":[]}"#;

/// CPU of the load generator and the upstream.
pub const OTHER_CPU: u32 = 1;
/// A 4 KiB object.
pub const SMALL: &str = "/api/v1/namespaces/bench/configmaps/small";
/// A list of 20 MB.
pub const LIST: &str = "/api/v1/pods";
/// A list of 200 MB.
pub const HUGE: &str = "/api/v1/nodes";

const POLICY: &str = "apiVersion: eks-guard.dev/v1alpha1
kind: AgentPolicy
metadata: {name: bench}
spec:
  subjects: {agents: [bench]}
  rules:
    - {name: read, effect: allow, verbs: [get, list], apiGroups: [\"\"], resources: [configmaps, pods, nodes], namespaces: [\"*\"]}
";

/// Where the programs are that setup built or installed.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The release build of eks-guard.
    pub guard: PathBuf,
    /// The release build of the bare hyper proxy.
    pub bare: PathBuf,
    /// The rig's kubectl.
    pub kubectl: PathBuf,
}

/// Folder with certificates, configurations and static files.
pub struct Stage {
    folder: tempfile::TempDir,
    upstream_port: u16,
    _upstream: Program,
}

impl Stage {
    /// Writes everything and starts the upstream.
    ///
    /// # Errors
    /// A file cannot be written or nginx does not come up.
    pub fn start() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("eks-guard-bench-").tempdir()?;
        // The guarded load generator runs as an ordinary user and writes its latency log here.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))?;
        write_certificates(folder.path())?;
        write_lists(folder.path())?;
        let port = free_port()?;
        let config = nginx_upstream(folder.path(), port);
        let upstream = nginx(folder.path(), "upstream", &config, OTHER_CPU)?;
        wait_for(port)?;
        Ok(Self {
            folder,
            upstream_port: port,
            _upstream: upstream,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// No proxy: what the load generator and the upstream do alone.
    #[must_use]
    pub fn direct(&self) -> Subject {
        Subject {
            name: "direct",
            base: self.base("https", self.upstream_port),
            program: None,
            shell: None,
            log: self.path("direct.log"),
        }
    }

    /// nginx as a proxy.
    ///
    /// # Errors
    /// It does not come up.
    pub fn nginx(&self) -> Result<Subject> {
        let port = free_port()?;
        let config = nginx_proxy(self.folder.path(), port, self.upstream_port);
        let program = nginx(self.folder.path(), "nginx", &config, PROXY_CPU)?;
        self.subject("nginx", "https", port, program)
    }

    /// HAProxy.
    ///
    /// # Errors
    /// It does not come up.
    pub fn haproxy(&self) -> Result<Subject> {
        let port = free_port()?;
        let (dir, file) = (self.folder.path().display(), self.path("haproxy.cfg"));
        fs::write(
            &file,
            format!(
                "global\n  nbthread 1\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  http-reuse always\n\
             frontend f\n  bind 127.0.0.1:{port} ssl crt {dir}/server.both alpn h2,http/1.1 ssl-min-ver TLSv1.3\n  default_backend b\n\
             backend b\n  http-request set-header X-Bench 1\n  server s 127.0.0.1:{} ssl verify required ca-file {dir}/ca.pem sni str(localhost) verifyhost localhost alpn http/1.1\n",
                self.upstream_port
            ),
        )?;
        let program = Program::start(
            "haproxy",
            pinned(PROXY_CPU, "haproxy").args(["-db", "-f"]).arg(&file),
        )?;
        self.subject("haproxy", "https", port, program)
    }

    /// The bare hyper proxy: the floor of this design.
    ///
    /// # Errors
    /// It does not come up.
    pub fn bare(&self, programs: &Programs) -> Result<Subject> {
        let port = free_port()?;
        let mut command = pinned(PROXY_CPU, &programs.bare.display().to_string());
        command.args([port.to_string(), self.upstream_port.to_string()]);
        command.args(["server.pem", "server.key", "ca.pem"].map(|name| self.path(name)));
        let program = Program::start("bare hyper", &mut command)?;
        self.subject("bare hyper", "https", port, program)
    }

    /// `kubectl proxy`: takes plain HTTP, so it saves one side of TLS.
    ///
    /// # Errors
    /// It does not come up.
    pub fn kubectl_proxy(&self, programs: &Programs) -> Result<Subject> {
        let port = free_port()?;
        let mut command = pinned(PROXY_CPU, &programs.kubectl.display().to_string());
        command
            .arg("proxy")
            .arg(format!("--port={port}"))
            .arg("--kubeconfig")
            .arg(self.kubeconfig()?);
        let program = Program::start("kubectl proxy", &mut command)?;
        self.subject("kubectl proxy", "http", port, program)
    }

    /// eks-guard: the load generator runs inside its boundary and dials the upstream; the kernel does the rest.
    ///
    /// # Errors
    /// It does not come up.
    pub fn guard(&self, programs: &Programs) -> Result<Subject> {
        let policy = self.path("policy.yaml");
        fs::write(&policy, POLICY)?;
        let mut command = pinned(PROXY_CPU, &programs.guard.display().to_string());
        command
            .args(["run", "--agent", "bench", "--user", "nobody", "--policy"])
            .arg(&policy);
        command
            .arg("--kubeconfig")
            .arg(self.kubeconfig()?)
            .arg("--records")
            .arg(self.path("records"));
        command
            .args(["--", "taskset", "-c", &OTHER_CPU.to_string(), "sh"])
            .current_dir("/");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut program = Program::start("eks-guard", &mut command)?;
        let child = program.child();
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("eks-guard has no pipes");
        };
        let mut shell = Shell {
            stdin,
            stdout: BufReader::new(stdout),
        };
        shell.run("true").context("eks-guard did not start its command")?;
        let base = self.base("https", self.upstream_port);
        Ok(Subject {
            name: "eks-guard",
            base,
            program: Some(program),
            shell: Some(shell),
            log: self.path("guard.log"),
        })
    }

    fn kubeconfig(&self) -> Result<PathBuf> {
        let path = self.path("kubeconfig");
        let port = self.upstream_port;
        fs::write(
            &path,
            format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: bench\n\
             clusters: [{{name: bench, cluster: {{server: 'https://127.0.0.1:{port}', certificate-authority: '{}'}}}}]\n\
             contexts: [{{name: bench, context: {{cluster: bench, user: bench}}}}]\nusers: [{{name: bench, user: {{token: bench}}}}]\n",
                self.path("ca.pem").display()
            ),
        )?;
        Ok(path)
    }

    fn base(&self, scheme: &str, port: u16) -> String {
        format!("{scheme}://127.0.0.1:{port}")
    }

    fn subject(&self, name: &'static str, scheme: &str, port: u16, program: Program) -> Result<Subject> {
        wait_for(port).with_context(|| format!("{name} does not listen"))?;
        let log = self.path(&format!("{}.log", name.replace(' ', "-")));
        Ok(Subject {
            name,
            base: self.base(scheme, port),
            program: Some(program),
            shell: None,
            log,
        })
    }
}

/// One side of the comparison.
pub struct Subject {
    /// Name in the table.
    pub name: &'static str,
    base: String,
    program: Option<Program>,
    shell: Option<Shell>,
    log: PathBuf,
}

impl Subject {
    /// Whether it takes TLS (kubectl proxy does not, and so speaks no h2 either).
    #[must_use]
    pub fn tls(&self) -> bool {
        self.base.starts_with("https")
    }

    /// Processes whose CPU and memory count; empty for `direct`.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        match (&self.program, &self.shell) {
            // Of the guard only the guard counts, not the command it runs.
            (Some(program), Some(_)) => program.pids().into_iter().take(1).collect(),
            (Some(program), None) => program.pids(),
            (None, _) => Vec::new(),
        }
    }

    /// Runs one cell: what the load saw, and the CPU time in µs that the proxy used for one request.
    ///
    /// # Errors
    /// The load failed.
    pub fn cell(&mut self, shape: Shape, path: &str) -> Result<(Load, f64)> {
        let url = format!("{}{path}", self.base);
        let pids = self.pids();
        let before = Program::cpu(&pids);
        let load = match &mut self.shell {
            None => load::run(shape, &url, &self.log, OTHER_CPU)?,
            Some(shell) => load::parse(
                &shell.run(&load::command(shape, &url, &self.log).join(" "))?,
                &self.log,
            )?,
        };
        let spent = Program::cpu(&pids).saturating_sub(before);
        let per_request = spent.as_secs_f64() * 1e6 / load.requests;
        Ok((load, per_request))
    }
}

/// The shell that eks-guard runs as its command: cells are typed into it.
struct Shell {
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Shell {
    fn run(&mut self, command: &str) -> Result<String> {
        writeln!(self.stdin, "{command} 2>&1; echo; echo @@end")?;
        let mut output = String::new();
        loop {
            let mut line = String::new();
            if self.stdout.read_line(&mut line)? == 0 {
                bail!("the guarded shell ended:\n{output}");
            }
            if line.trim_end() == "@@end" {
                return Ok(output);
            }
            output.push_str(&line);
        }
    }
}

fn pinned(cpu: u32, program: &str) -> Command {
    let mut command = Command::new("taskset");
    command
        .args(["-c", &cpu.to_string(), program])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn nginx(folder: &Path, name: &str, config: &str, cpu: u32) -> Result<Program> {
    let file = folder.join(format!("{name}.conf"));
    fs::write(&file, config)?;
    Program::start(
        name,
        pinned(cpu, "nginx").arg("-c").arg(&file).arg("-p").arg(folder),
    )
}

fn nginx_frame(folder: &Path, port: u16, http: &str, server: &str) -> String {
    let dir = folder.display();
    format!(
        "daemon off; worker_processes 1; pid {dir}/nginx-{port}.pid; error_log /dev/null crit;\nevents {{ worker_connections 2048; }}\n\
         http {{ access_log off; default_type application/json; keepalive_requests 10000000; sendfile on;\n\
         client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3; uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;\n{http}\n\
         server {{ listen 127.0.0.1:{port} ssl http2 backlog=2048; ssl_protocols TLSv1.3;\n\
         ssl_certificate {dir}/server.pem; ssl_certificate_key {dir}/server.key; {server} }} }}\n"
    )
}

fn nginx_upstream(folder: &Path, port: u16) -> String {
    let dir = folder.display();
    nginx_frame(
        folder,
        port,
        "",
        &format!(
            "location = /api {{ return 200 '{CORE}'; }} location = /apis {{ return 200 '{GROUPS}'; }}\n\
         location = /version {{ return 200 '{{\"major\":\"1\",\"minor\":\"36\",\"gitVersion\":\"v1.36.3\"}}'; }}\n\
         location = {SMALL} {{ alias {dir}/small.json; }} location = {LIST} {{ alias {dir}/list.json; }} location = {HUGE} {{ alias {dir}/huge.json; }}"
        ),
    )
}

fn nginx_proxy(folder: &Path, port: u16, upstream: u16) -> String {
    let dir = folder.display();
    nginx_frame(
        folder,
        port,
        &format!("upstream up {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 10000000; }}"),
        &format!(
            "location / {{ proxy_pass https://up; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header X-Bench 1; proxy_buffering off;\n\
         proxy_ssl_verify on; proxy_ssl_trusted_certificate {dir}/ca.pem; proxy_ssl_name localhost; proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.3; }}"
        ),
    )
}

fn write_certificates(folder: &Path) -> Result<()> {
    let ca_key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key)?;
    let issuer = Issuer::from_params(&params, &ca_key);
    let key = KeyPair::generate()?;
    let mut leaf = CertificateParams::new(vec![String::from("localhost"), String::from("127.0.0.1")])?;
    // OpenSSL takes a certificate with its issuer's name for self-signed.
    leaf.distinguished_name.push(DnType::CommonName, "upstream");
    let leaf = leaf.signed_by(&key, &issuer)?;
    fs::write(folder.join("ca.pem"), ca.pem())?;
    fs::write(folder.join("server.pem"), leaf.pem())?;
    fs::write(folder.join("server.key"), key.serialize_pem())?;
    Ok(fs::write(
        folder.join("server.both"),
        leaf.pem() + &key.serialize_pem(),
    )?)
}

fn write_lists(folder: &Path) -> Result<()> {
    let object = format!(
        "{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"small\",\"namespace\":\"bench\"}},\"data\":{{\"k\":\"{}\"}}}}",
        "x".repeat(3_975)
    );
    fs::write(folder.join("small.json"), &object)?;
    for (name, count) in [("list.json", 5_000), ("huge.json", 50_000)] {
        let mut file = std::io::BufWriter::new(fs::File::create(folder.join(name))?);
        file.write_all(b"{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[")?;
        for index in 0..count {
            file.write_all(if index == 0 { b"" } else { b"," })?;
            file.write_all(object.as_bytes())?;
        }
        file.write_all(b"]}")?;
        file.flush()?;
    }
    Ok(())
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn wait_for(port: u16) -> Result<()> {
    wait::until(&format!("something listens on 127.0.0.1:{port}"), || {
        Ok(TcpStream::connect(("127.0.0.1", port)).is_ok())
    })
}
