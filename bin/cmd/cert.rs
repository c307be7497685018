//! `cert`: who may connect, and what for. Mutual TLS is always on, so this has to be easy.

use std::time::Duration;

use walrus_node::certs::{self, CertError, CertInfo, Request};

use crate::at::typed;
use crate::cli::{Cert, CertCheck, CertInit, CertIssue};
use crate::fail::{Exit, Failure};
use crate::output::{Output, Table};

pub(crate) fn run(command: Cert) -> Result<(), Failure> {
    match command {
        Cert::Init(args) => init(&args),
        Cert::Issue(args) => issue(args),
        Cert::Check(args) => check(&args),
    }
}

fn init(args: &CertInit) -> Result<(), Failure> {
    certs::init(&args.dir, &args.cluster).map_err(|error| failure(&error))?;
    let dir = typed(&args.dir);
    let mut out = Output::new();
    out.line(format_args!("{}", args.dir.join("ca.pem").display()))?;
    out.flush()?;
    eprintln!("made a certificate authority; whoever has ca.key can let anybody in, so keep it away from the nodes");
    eprintln!("next: walrus-node cert issue {dir} leader --role node");
    Ok(())
}

fn issue(args: CertIssue) -> Result<(), Failure> {
    let request = Request { name: args.name, role: args.role, topics: args.topics, hosts: args.san };
    let folder = certs::issue(&args.dir, &request).map_err(|error| failure(&error))?;
    let mut out = Output::new();
    out.line(format_args!("{}", folder.display()))?;
    out.flush()?;
    eprintln!("issued to {} as {}; next: --tls {}", request.name, request.role, typed(&folder));
    Ok(())
}

fn check(args: &CertCheck) -> Result<(), Failure> {
    let found = certs::check(&args.dir).map_err(|error| failure(&error))?;
    let mut out = Output::new();
    let mut table = Table::new(&["CERTIFICATE", "WHOSE", "ENDS IN", "VERDICT"]);
    for cert in &found {
        let verdict = if ends_too_soon(cert, args.within) { "ends too soon" } else { "good" };
        let days = format!("{} days", cert.left.as_secs() / 86_400);
        table.row(vec![cert.path.display().to_string(), cert.subject.clone(), days, verdict.to_owned()]);
    }
    table.print(&mut out)?;
    out.flush()?;
    match found.iter().filter(|cert| ends_too_soon(cert, args.within)).count() {
        0 => Ok(()),
        n => {
            let message =
                format!("{n} of {} certificates end within {} days", found.len(), args.within.as_secs() / 86_400);
            Err(Failure::new(Exit::Failed, message).hint("walrus-node cert issue DIR NAME --role ROLE, for a new one"))
        }
    }
}

fn ends_too_soon(cert: &CertInfo, within: Duration) -> bool {
    cert.left < within
}

fn failure(error: &CertError) -> Failure {
    let exit = if matches!(error, CertError::Name { .. }) { Exit::Usage } else { Exit::Failed };
    Failure::of_text(exit, &error.to_string())
}
