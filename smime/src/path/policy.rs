//! Certificate policies along a path (RFC 5280 section 6.1, with the policy graph of RFC 9618).
//!
//! RFC 5280's tree doubles with every certificate that maps two policies to two; the graph has one node for
//! each policy and depth, so that it is never larger than what the certificates spell out.

use std::collections::{BTreeMap, BTreeSet};

use const_oid::db::rfc5280::ANY_POLICY;
use der::asn1::ObjectIdentifier;
use x509_cert::ext::pkix::{CertificatePolicies, InhibitAnyPolicy, PolicyConstraints, PolicyMappings};

use crate::Certificate;

/// What a relying party wants of policies (RFC 5280 6.1.1 (c) to (g)). By default any policy will do, and none
/// is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicySettings {
    /// user-initial-policy-set; `None` is any-policy.
    pub initial_policy_set: Option<BTreeSet<ObjectIdentifier>>,
    /// initial-explicit-policy: the path must be valid for a policy of the set.
    pub explicit_policy: bool,
    /// initial-policy-mapping-inhibit: policies are not mapped.
    pub inhibit_policy_mapping: bool,
    /// initial-any-policy-inhibit: anyPolicy in a certificate is no policy.
    pub inhibit_any_policy: bool,
}

/// The policies that a path is valid for: the user-constrained-policy-set (RFC 5280 6.1.6), in the words of
/// the domain of the trust anchor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ValidPolicies {
    /// The policies by name.
    pub named: BTreeSet<ObjectIdentifier>,
    /// Every policy of the initial policy set.
    pub any: bool,
}

impl ValidPolicies {
    /// Whether the path is valid for no policy at all.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty() && !self.any
    }
}

/// Why the policies of a path do not do, and at which of its certificates, the leaf being 0.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PolicyDefect {
    pub(super) position: usize,
    pub(super) reason: &'static str,
}

/// Processes the policies of `chain`, leaf first, anchor last. The anchor's own extensions are not part of
/// the path.
pub(super) fn process(
    chain: &[Certificate],
    settings: &PolicySettings,
) -> Result<ValidPolicies, PolicyDefect> {
    let Some((_, path)) = chain.split_last() else { return Ok(ValidPolicies::default()) };
    let skip = |inhibited: bool| if inhibited { 0 } else { path.len() + 1 };
    let mut state = State {
        graph: Graph::new(),
        explicit_policy: skip(settings.explicit_policy),
        policy_mapping: skip(settings.inhibit_policy_mapping),
        inhibit_any_policy: skip(settings.inhibit_any_policy),
    };
    for (position, certificate) in path.iter().enumerate().rev() {
        let step = if position == 0 { state.leaf(certificate) } else { state.issuer(certificate) };
        step.map_err(|reason| PolicyDefect { position, reason })?;
    }
    let valid = state.graph.valid(settings.initial_policy_set.as_ref());
    if state.explicit_policy == 0 && valid.is_empty() {
        return Err(PolicyDefect { position: 0, reason: NO_POLICY });
    }
    Ok(valid)
}

const NO_POLICY: &str = "an explicit policy is required, and the path is valid for none of those wanted";
const MALFORMED: &str = "an extension on policies is malformed";

/// The state variables of RFC 5280 6.1.2 (a) and (d) to (f).
struct State {
    graph: Graph,
    explicit_policy: usize,
    policy_mapping: usize,
    inhibit_any_policy: usize,
}

impl State {
    /// RFC 5280 6.1.3 (d) to (f).
    fn basic(&mut self, certificate: &Certificate, may_be_any: bool) -> Result<(), &'static str> {
        match certificate.extension::<CertificatePolicies>() {
            Err(_) => return Err(MALFORMED),
            Ok(None) => self.graph.clear(),
            Ok(Some(policies)) => {
                let mut named = BTreeSet::new();
                for information in &policies.0 {
                    if !named.insert(information.policy_identifier) {
                        return Err("certificatePolicies names a policy twice");
                    }
                }
                let has_any = named.remove(&ANY_POLICY);
                self.graph.intersect(named, has_any && may_be_any);
            }
        }
        if self.explicit_policy == 0 && self.graph.is_empty() { Err(NO_POLICY) } else { Ok(()) }
    }

    /// RFC 5280 6.1.3 and 6.1.4 for a certificate between anchor and leaf.
    fn issuer(&mut self, certificate: &Certificate) -> Result<(), &'static str> {
        let is_self_issued = certificate.is_self_issued();
        self.basic(certificate, self.inhibit_any_policy > 0 || is_self_issued)?;
        let mut mappings: BTreeMap<ObjectIdentifier, BTreeSet<ObjectIdentifier>> = BTreeMap::new();
        match certificate.extension::<PolicyMappings>() {
            Err(_) => return Err(MALFORMED),
            Ok(None) => {}
            Ok(Some(read)) => {
                for mapping in read.0 {
                    let (from, to) = (mapping.issuer_domain_policy, mapping.subject_domain_policy);
                    if from == ANY_POLICY || to == ANY_POLICY {
                        return Err("policyMappings maps from or to anyPolicy");
                    }
                    mappings.entry(from).or_default().insert(to);
                }
            }
        }
        self.graph.descend(&mappings, self.policy_mapping > 0);
        if !is_self_issued {
            self.explicit_policy = self.explicit_policy.saturating_sub(1);
            self.policy_mapping = self.policy_mapping.saturating_sub(1);
            self.inhibit_any_policy = self.inhibit_any_policy.saturating_sub(1);
        }
        let (explicit, mapping) = constraints(certificate)?;
        self.explicit_policy = at_most(self.explicit_policy, explicit);
        self.policy_mapping = at_most(self.policy_mapping, mapping);
        let any = certificate.extension::<InhibitAnyPolicy>().map_err(|_| MALFORMED)?;
        self.inhibit_any_policy = at_most(self.inhibit_any_policy, any.map(|inhibit| inhibit.0));
        Ok(())
    }

    /// RFC 5280 6.1.3 and 6.1.5 (a) and (b).
    fn leaf(&mut self, certificate: &Certificate) -> Result<(), &'static str> {
        self.basic(certificate, self.inhibit_any_policy > 0)?;
        self.explicit_policy = self.explicit_policy.saturating_sub(1);
        if constraints(certificate)?.0 == Some(0) {
            self.explicit_policy = 0;
        }
        Ok(())
    }
}

/// requireExplicitPolicy and inhibitPolicyMapping.
fn constraints(certificate: &Certificate) -> Result<(Option<u32>, Option<u32>), &'static str> {
    let read = certificate.extension::<PolicyConstraints>().map_err(|_| MALFORMED)?;
    Ok(read.map_or((None, None), |read| (read.require_explicit_policy, read.inhibit_policy_mapping)))
}

fn at_most(state: usize, limit: Option<u32>) -> usize {
    limit.map_or(state, |limit| state.min(usize::try_from(limit).unwrap_or(usize::MAX)))
}

/// The valid_policy_graph (RFC 9618 5.1). The last level holds the expected policies of the certificate that
/// comes next until [`intersect`](Self::intersect) has made them its valid policies.
struct Graph {
    levels: Vec<Level>,
}

#[derive(Debug, Default)]
struct Level {
    /// Whether there is a node for anyPolicy.
    any: bool,
    /// The other nodes, each with the policies above it that it stands below. None: it is below anyPolicy.
    nodes: BTreeMap<ObjectIdentifier, BTreeSet<ObjectIdentifier>>,
}

impl Level {
    fn is_empty(&self) -> bool {
        self.nodes.is_empty() && !self.any
    }
}

impl Graph {
    fn new() -> Self {
        Self { levels: vec![Level { any: true, nodes: BTreeMap::new() }] }
    }

    fn is_empty(&self) -> bool {
        self.levels.last().is_none_or(Level::is_empty)
    }

    /// A certificate without policies: valid_policy_graph is NULL from here on.
    fn clear(&mut self) {
        self.levels.clear();
    }

    /// Keeps what a certificate names of what was expected of it (RFC 9618 5.3 (d)).
    fn intersect(&mut self, named: BTreeSet<ObjectIdentifier>, has_any: bool) {
        let Some(level) = self.levels.last_mut() else { return };
        if !has_any {
            level.nodes.retain(|policy, _| named.contains(policy));
        }
        if level.any {
            for policy in named {
                level.nodes.entry(policy).or_default();
            }
        }
        level.any &= has_any;
        if level.is_empty() {
            self.clear();
        }
    }

    /// Makes the level of what is expected below a certificate (RFC 9618 5.4 (b)).
    fn descend(
        &mut self,
        mappings: &BTreeMap<ObjectIdentifier, BTreeSet<ObjectIdentifier>>,
        is_allowed: bool,
    ) {
        let Some(level) = self.levels.last_mut() else { return };
        for from in mappings.keys() {
            if !is_allowed {
                level.nodes.remove(from);
            } else if level.any {
                level.nodes.entry(*from).or_default();
            }
        }
        let mut next = Level { any: level.any, nodes: BTreeMap::new() };
        for policy in level.nodes.keys() {
            let itself = BTreeSet::from([*policy]);
            for expected in mappings.get(policy).unwrap_or(&itself) {
                next.nodes.entry(*expected).or_default().insert(*policy);
            }
        }
        if next.is_empty() {
            self.clear();
        } else {
            self.levels.push(next);
        }
    }

    /// The policies of the first domain that lead down to the leaf, as far as they are wanted (RFC 9618 5.5 (g)).
    fn valid(&self, wanted: Option<&BTreeSet<ObjectIdentifier>>) -> ValidPolicies {
        let Some(last) = self.levels.last() else { return ValidPolicies::default() };
        let mut named = BTreeSet::new();
        let mut reached: BTreeSet<ObjectIdentifier> = last.nodes.keys().copied().collect();
        for level in self.levels.iter().rev() {
            let mut above = BTreeSet::new();
            for policy in reached {
                let Some(parents) = level.nodes.get(&policy) else { continue };
                above.extend(parents);
                if parents.is_empty() {
                    named.insert(policy);
                }
            }
            reached = above;
        }
        if let Some(wanted) = wanted {
            let all = last.any.then_some(wanted).into_iter().flatten();
            let named = wanted.intersection(&named).chain(all).copied().collect();
            return ValidPolicies { named, any: false };
        }
        ValidPolicies { named, any: last.any }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(number: u32) -> ObjectIdentifier {
        ObjectIdentifier::new(&format!("1.3.6.1.4.1.99999.{number}")).unwrap()
    }

    fn set(numbers: &[u32]) -> BTreeSet<ObjectIdentifier> {
        numbers.iter().map(|number| policy(*number)).collect()
    }

    fn mappings(pairs: &[(u32, u32)]) -> BTreeMap<ObjectIdentifier, BTreeSet<ObjectIdentifier>> {
        let mut mappings: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (from, to) in pairs {
            mappings.entry(policy(*from)).or_default().insert(policy(*to));
        }
        mappings
    }

    #[test]
    fn policies_are_valid_in_the_words_of_the_anchor_s_domain() {
        let mut graph = Graph::new();
        graph.intersect(set(&[1, 2, 3]), false);
        graph.descend(&mappings(&[(1, 11), (2, 11), (2, 12)]), true);
        graph.intersect(set(&[11, 3]), false);
        graph.descend(&mappings(&[(11, 21)]), true);
        graph.intersect(set(&[21]), false);
        assert_eq!(graph.valid(None), ValidPolicies { named: set(&[1, 2]), any: false });
        assert_eq!(graph.valid(Some(&set(&[2, 3]))).named, set(&[2]));
        assert!(graph.valid(Some(&set(&[11]))).is_empty());
    }

    #[test]
    fn what_any_policy_stands_for_is_what_is_wanted() {
        let mut graph = Graph::new();
        graph.intersect(set(&[]), true);
        graph.descend(&mappings(&[]), true);
        graph.intersect(set(&[7]), true);
        assert_eq!(graph.valid(None), ValidPolicies { named: set(&[7]), any: true });
        assert_eq!(graph.valid(Some(&set(&[8]))), ValidPolicies { named: set(&[8]), any: false });
        graph.descend(&mappings(&[(8, 9)]), true);
        graph.intersect(set(&[9]), false);
        assert_eq!(graph.valid(None), ValidPolicies { named: set(&[8]), any: false });
    }

    #[test]
    fn a_graph_grows_with_what_is_mapped_and_not_with_the_ways_through_it() {
        let all: Vec<u32> = (0..100).collect();
        let every: Vec<_> = all.iter().flat_map(|from| all.iter().map(|to| (*from, *to))).collect();
        let every = mappings(&every);
        let mut graph = Graph::new();
        for _ in 0..9 {
            graph.intersect(set(&all), false);
            graph.descend(&every, true);
        }
        graph.intersect(set(&[5]), false);
        let nodes: usize = graph.levels.iter().map(|level| level.nodes.len()).sum();
        assert_eq!(nodes, 901);
        // 100 to the ninth ways lead to it, and each policy is named once.
        assert_eq!(graph.valid(None).named.len(), 100);
    }

    #[test]
    fn where_mapping_is_inhibited_mapped_policies_end() {
        let mut graph = Graph::new();
        graph.intersect(set(&[1, 2]), true);
        graph.descend(&mappings(&[(1, 3)]), false);
        graph.intersect(set(&[1, 2, 3]), false);
        // What anyPolicy stood for may be anything still: 1 and 3 as themselves.
        assert_eq!(graph.valid(None).named, set(&[1, 2, 3]));
        let mut graph = Graph::new();
        graph.intersect(set(&[1]), false);
        graph.descend(&mappings(&[(1, 3)]), false);
        assert!(graph.is_empty() && graph.valid(None).is_empty());
    }
}
