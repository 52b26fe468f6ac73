//! Egress: what a sandbox may reach of the network, as the second API has it. A policy that exists makes
//! sense. Says nothing of what no policy opens, such as the host, other sandboxes and metadata services:
//! that is for whoever enforces it.

use std::{collections::BTreeSet, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::code::Refused;

/// The most networks in one list.
const MAX_CIDRS: usize = 100;
/// The most ports.
const MAX_PORTS: usize = 100;

/// What happens to what no list names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EgressMode {
    /// It is allowed.
    AllowAll,
    /// It is denied.
    DenyAll,
}

impl EgressMode {
    /// Every mode.
    pub const ALL: [Self; 2] = [Self::AllowAll, Self::DenyAll];

    /// The wire and storage form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AllowAll => "allow_all",
            Self::DenyAll => "deny_all",
        }
    }
}

impl FromStr for EgressMode {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == text).ok_or_else(|| {
            Refused::invalid("egress.mode", "egress.mode must be allow_all or deny_all")
        })
    }
}

/// A policy as somebody wrote it: the form on the wire and in storage, checked by nobody yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressText {
    /// `allow_all` or `deny_all`.
    pub mode: String,
    /// Networks, such as `203.0.113.0/24`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_cidrs: Vec<String>,
    /// Networks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny_cidrs: Vec<String>,
    /// TCP ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_ports: Vec<i64>,
}

/// What a sandbox may reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "EgressText", into = "EgressText")]
pub struct EgressPolicy {
    mode: EgressMode,
    allow_cidrs: Vec<IpNet>,
    deny_cidrs: Vec<IpNet>,
    allow_ports: BTreeSet<u16>,
}

impl EgressPolicy {
    /// Everything that can be reached at all: the default of templates.
    #[must_use]
    pub const fn allow_all() -> Self {
        Self::of(EgressMode::AllowAll)
    }

    /// Nothing.
    #[must_use]
    pub const fn deny_all() -> Self {
        Self::of(EgressMode::DenyAll)
    }

    const fn of(mode: EgressMode) -> Self {
        Self { mode, allow_cidrs: Vec::new(), deny_cidrs: Vec::new(), allow_ports: BTreeSet::new() }
    }

    /// Checks a policy. A list that is empty is as good as none.
    ///
    /// # Errors
    /// `invalid_request`, with the field: a mode, network or port that is none; a network with bits behind
    /// its prefix, of which nobody knows what was meant; more of them than a policy takes; a list of what
    /// is allowed where all is; ports without the networks that they are of.
    pub fn parse(text: &EgressText) -> Result<Self, Refused> {
        let mode = text.mode.parse()?;
        let allow_cidrs = networks("egress.allow_cidrs", &text.allow_cidrs)?;
        let deny_cidrs = networks("egress.deny_cidrs", &text.deny_cidrs)?;
        let allow_ports = ports("egress.allow_ports", &text.allow_ports)?;
        if mode == EgressMode::AllowAll {
            for (field, is_empty) in [
                ("egress.allow_cidrs", allow_cidrs.is_empty()),
                ("egress.allow_ports", allow_ports.is_empty()),
            ] {
                if !is_empty {
                    let text = format!("{field} is for mode deny_all only: allow_all allows all");
                    return Err(Refused::invalid(field, text));
                }
            }
        }
        if !allow_ports.is_empty() && allow_cidrs.is_empty() {
            return Err(Refused::invalid(
                "egress.allow_ports",
                "egress.allow_ports restricts egress.allow_cidrs, which must be there then",
            ));
        }
        Ok(Self { mode, allow_cidrs, deny_cidrs, allow_ports })
    }

    /// What happens to what no list names.
    #[must_use]
    pub const fn mode(&self) -> EgressMode {
        self.mode
    }

    /// The networks that may be reached; of no meaning where all may.
    #[must_use]
    pub fn allow_cidrs(&self) -> &[IpNet] {
        &self.allow_cidrs
    }

    /// The networks that may not, whatever else is said.
    #[must_use]
    pub fn deny_cidrs(&self) -> &[IpNet] {
        &self.deny_cidrs
    }

    /// The TCP ports at which the allowed networks may be reached, and by nothing but TCP; none: however.
    #[must_use]
    pub const fn allow_ports(&self) -> &BTreeSet<u16> {
        &self.allow_ports
    }
}

impl TryFrom<EgressText> for EgressPolicy {
    type Error = Refused;

    fn try_from(text: EgressText) -> Result<Self, Refused> {
        Self::parse(&text)
    }
}

impl From<EgressPolicy> for EgressText {
    fn from(policy: EgressPolicy) -> Self {
        let shown = |networks: &[IpNet]| networks.iter().map(IpNet::to_string).collect();
        Self {
            mode: policy.mode.as_str().to_owned(),
            allow_cidrs: shown(&policy.allow_cidrs),
            deny_cidrs: shown(&policy.deny_cidrs),
            allow_ports: policy.allow_ports.into_iter().map(i64::from).collect(),
        }
    }
}

fn networks(field: &str, texts: &[String]) -> Result<Vec<IpNet>, Refused> {
    if texts.len() > MAX_CIDRS {
        let text = format!("{field} must have at most {MAX_CIDRS} networks");
        return Err(Refused::invalid(field, text));
    }
    let each = texts.iter().enumerate();
    each.map(|(n, text)| network(&format!("{field}[{n}]"), text)).collect()
}

fn network(field: &str, text: &str) -> Result<IpNet, Refused> {
    let network: IpNet = text.parse().map_err(|_| {
        let text = "must be a network such as 203.0.113.0/24 or 2001:db8::/32";
        Refused::invalid(field, format!("{field} {text}"))
    })?;
    if network != network.trunc() {
        let (all, one) = (network.trunc(), IpNet::from(network.addr()));
        return Err(Refused::invalid(
            field,
            format!("{field} has bits behind its prefix: write {all} for all of it, or {one}"),
        ));
    }
    // Rules for it would never see what is sent to the address that it stands for.
    let mapped = match network {
        IpNet::V4(_) => None,
        IpNet::V6(network) => network.addr().to_ipv4_mapped(),
    };
    match mapped {
        Some(_) => Err(Refused::invalid(field, format!("{field} must be written as IPv4"))),
        None => Ok(network),
    }
}

fn ports(field: &str, numbers: &[i64]) -> Result<BTreeSet<u16>, Refused> {
    if numbers.len() > MAX_PORTS {
        let text = format!("{field} must have at most {MAX_PORTS} ports");
        return Err(Refused::invalid(field, text));
    }
    let port = |(n, number): (usize, &i64)| {
        u16::try_from(*number).ok().filter(|port| *port > 0).ok_or_else(|| {
            let field = format!("{field}[{n}]");
            Refused::invalid(&*field, format!("{field} must be a TCP port, 1 to 65535"))
        })
    };
    numbers.iter().enumerate().map(port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(mode: &str, allow: &[&str], deny: &[&str], ports: &[i64]) -> EgressText {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        EgressText {
            mode: mode.to_owned(),
            allow_cidrs: owned(allow),
            deny_cidrs: owned(deny),
            allow_ports: ports.to_vec(),
        }
    }

    #[test]
    fn a_policy_makes_sense_or_is_refused_with_its_field() {
        let (net, other) = ("203.0.113.0/24", "10.0.0.0/8");
        for (text, wanted, why) in [
            (text("allow_all", &[], &[], &[]), None, "the default"),
            (text("allow_all", &[], &[net, "::/0"], &[]), None, "denies are for both modes"),
            (text("deny_all", &[], &[], &[]), None, "nothing at all"),
            (text("deny_all", &[net, "2001:db8::/32"], &[other], &[443, 80, 443]), None, "all"),
            (text("deny_all", &["1.1.1.1/32", "0.0.0.0/0"], &[], &[]), None, "one, everything"),
            (text("", &[], &[], &[]), Some("egress.mode"), "no mode"),
            (text("ALLOW_ALL", &[], &[], &[]), Some("egress.mode"), "another mode"),
            (text("allow_all", &[net], &[], &[]), Some("egress.allow_cidrs"), "allowed twice"),
            (text("allow_all", &[], &[], &[80]), Some("egress.allow_ports"), "ports of all"),
            (text("deny_all", &[], &[net], &[80]), Some("egress.allow_ports"), "ports of none"),
            (text("deny_all", &[net, "10.0.0.0/33"], &[], &[]), Some("egress.allow_cidrs[1]"), ""),
            (text("deny_all", &["1.1.1.1"], &[], &[]), Some("egress.allow_cidrs[0]"), "no prefix"),
            (text("deny_all", &["example.org/8"], &[], &[]), Some("egress.allow_cidrs[0]"), "name"),
            (text("allow_all", &[], &[""], &[]), Some("egress.deny_cidrs[0]"), "empty"),
            (text("allow_all", &[], &["10.0.0.5/8"], &[]), Some("egress.deny_cidrs[0]"), "bits"),
            (
                text("allow_all", &[], &["::ffff:10.0.0.0/104"], &[]),
                Some("egress.deny_cidrs[0]"),
                "IPv4 in disguise",
            ),
            (text("deny_all", &[net], &[], &[80, 0]), Some("egress.allow_ports[1]"), "no port"),
            (text("deny_all", &[net], &[], &[65_536]), Some("egress.allow_ports[0]"), "too high"),
            (text("deny_all", &[net], &[], &[-1]), Some("egress.allow_ports[0]"), "negative"),
            (text("deny_all", &[net; 101], &[], &[]), Some("egress.allow_cidrs"), "too many"),
            (text("allow_all", &[], &[net; 101], &[]), Some("egress.deny_cidrs"), "too many"),
            (text("deny_all", &[net], &[], &[80; 101]), Some("egress.allow_ports"), "too many"),
        ] {
            let got = EgressPolicy::parse(&text).err().map(|refused| refused.field.unwrap());
            assert_eq!(got.as_deref(), wanted, "{why}: {text:?}");
        }
    }

    #[test]
    fn bits_behind_a_prefix_are_explained() {
        let refused = EgressPolicy::parse(&text("deny_all", &["10.0.0.5/8"], &[], &[]));
        let message = refused.unwrap_err().message;
        assert!(message.contains("10.0.0.0/8") && message.contains("10.0.0.5/32"), "{message}");
    }

    #[test]
    fn a_policy_is_stored_as_it_was_written() {
        let written = text("deny_all", &["203.0.113.0/24", "::/0"], &["10.0.0.0/8"], &[80, 443]);
        let policy = EgressPolicy::parse(&written).unwrap();
        assert_eq!(EgressText::from(policy.clone()), written);
        assert_eq!(policy.mode(), EgressMode::DenyAll);
        assert_eq!(policy.allow_ports().iter().copied().collect::<Vec<_>>(), [80, 443]);
        for policy in [EgressPolicy::allow_all(), EgressPolicy::deny_all()] {
            assert_eq!(EgressPolicy::parse(&policy.clone().into()), Ok(policy));
        }
    }
}
