//! Which AWS service and region a host name stands for: what a signature is made out to.
//!
//! Only names that AWS gives to its APIs are known. Everything else below its domains, such as a
//! load balancer, is somebody's own server. Source: AWS General Reference, "Service endpoints and
//! quotas"; the names that differ from the service's own are those of botocore's models.

use crate::host::Host;

/// To which service and region a signature is confined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scope<'a> {
    pub service: &'a str,
    pub region: &'a str,
}

impl Scope<'_> {
    fn is_s3(&self) -> bool {
        matches!(self.service, "s3" | "s3-object-lambda" | "s3-outposts")
    }

    /// Whether a request says in a field what is signed of its body.
    pub(super) fn states_payload(&self) -> bool {
        self.is_s3() || self.service == "glacier"
    }

    pub(super) fn takes_unsigned_payload(&self) -> bool {
        self.is_s3()
    }

    /// Whether the path is signed as it is.
    pub(super) fn keeps_paths(&self) -> bool {
        self.is_s3()
    }
}

/// The domains of AWS's partitions, with the region of their services that have none.
const DOMAINS: [(&str, &str); 7] = [
    (".amazonaws.com", "us-east-1"),
    (".api.aws", "us-east-1"),
    (".on.aws", "us-east-1"),
    (".amazonaws.com.cn", "cn-northwest-1"),
    (".api.amazonwebservices.com.cn", "cn-northwest-1"),
    (".amazonaws.eu", "eusc-de-east-1"),
    (".api.amazonwebservices.eu", "eusc-de-east-1"),
];

/// `default` is the region of the bucket, for S3's names that say none.
pub(super) fn scope_of<'a>(host: &'a Host, default: Option<&'a str>) -> Option<Scope<'a>> {
    let found = DOMAINS
        .iter()
        .find_map(|(domain, region)| Some((host.as_str().strip_suffix(domain)?, *region)));
    let (name, partition_region) = found?;
    let labels: Vec<&str> = name.split('.').filter_map(without_fips).collect();
    // A bucket may be called like a region.
    let is_global = matches!(&labels[..], [.., "s3" | "s3-accelerate"] | [.., "s3-accelerate", _]);
    let at = labels.iter().rposition(|label| is_region(label)).filter(|_| !is_global);
    let Some(at) = at else { return without_region(&labels, partition_region, default) };
    let (before, region, after) = (&labels[..at], labels[at], &labels[at + 1..]);
    let service = match after {
        [] | ["us-gov"] => service_of(before)?,
        // A private address of a service inside somebody's network.
        ["vpce"] => service_of(before.get(1..)?)?,
        [service @ ("es" | "aoss" | "cloudsearch")] if before.len() == 1 => service,
        _ => return None,
    };
    Some(Scope { service, region })
}

/// The same service with American cryptography: `s3-fips`, `fips.batch`, `models-fips.lex`.
fn without_fips(label: &str) -> Option<&str> {
    let plain = label.strip_suffix("-fips").or_else(|| label.strip_prefix("fips-"));
    Some(plain.unwrap_or(label)).filter(|label| *label != "fips")
}

/// `us-east-1`, `us-gov-west-1`, `eusc-de-east-1`.
pub(super) fn is_region(label: &str) -> bool {
    let parts: Vec<&str> = label.split('-').collect();
    let is_word = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase());
    let Some((number, words)) = parts.split_last() else { return false };
    (2..=3).contains(&words.len())
        && words[0].len() <= 4
        && words.iter().all(is_word)
        && (1..=2).contains(&number.len())
        && number.bytes().all(|b| b.is_ascii_digit())
}

/// Services of which a partition has one, and names from before there were regions in them.
fn without_region<'a>(
    labels: &[&'a str],
    partition_region: &'static str,
    default: Option<&'a str>,
) -> Option<Scope<'a>> {
    let (service, region) = match labels {
        ["s3" | "s3-external-1"] => ("s3", partition_region),
        [.., "s3"]
        | ["s3-accelerate"]
        | [_, "s3-accelerate"]
        | [_, "s3-accelerate", "dualstack"] => ("s3", default.unwrap_or(partition_region)),
        ["global", service @ "health"] => (*service, partition_region),
        [before @ .., "us-gov"] => (service_of(before)?, "us-gov-west-1"),
        ["iam"] | ["iam", "global"] if partition_region == "cn-northwest-1" => {
            ("iam", "cn-north-1")
        }
        [before @ .., "global"] => (service_of(before)?, partition_region),
        [service] => match service.strip_prefix("s3-").filter(|region| is_region(region)) {
            Some(region) => ("s3", region),
            None => (service_of(labels)?, partition_region),
        },
        _ => return None,
    };
    Some(Scope { service, region })
}

/// The service that signs for what stands before the region.
fn service_of<'a>(labels: &[&'a str]) -> Option<&'a str> {
    let labels = match labels {
        [rest @ .., "dualstack"] => rest,
        labels => labels,
    };
    let (last, before) = labels.split_last()?;
    match (*last, before) {
        // A bucket's name may have dots.
        ("s3", _) => Some("s3"),
        ("s3-control" | "s3-accesspoint", [] | [_]) => Some("s3"),
        ("s3-object-lambda" | "s3-outposts", [_, ..]) => Some(last),
        // Those of a customer, who is named before.
        ("execute-api" | "kinesisvideo", [_]) => Some(last),
        ("lambda-url", [_]) => Some("lambda"),
        ("ddb", [_]) => Some("dynamodb"),
        ("control-kinesis" | "data-kinesis", [_]) => Some("kinesis"),
        ("appsync-api", [_]) => Some("appsync"),
        ("mediastore", [_, "data"]) => Some("mediastore"),
        ("timestream", [cell]) if cell.starts_with("ingest-") || cell.starts_with("query-") => {
            Some(last)
        }
        ("iot", [one]) if one.ends_with("-ats") => Some("iotdata"),
        (service, []) => Some(signer_of(service).unwrap_or(service)),
        (_, before) => signer_of(&format!("{}.{last}", before.join("."))),
    }
}

fn signer_of(name: &str) -> Option<&'static str> {
    let has = |names: &str| names.split(' ').any(|known| known == name);
    KNOWN.iter().find(|(_, names)| has(names)).map(|(service, _)| *service)
}

/// Services, and the names of theirs that are not their own.
const KNOWN: [(&str, &str); 56] = [
    ("account-access", "account-access-runtime"),
    ("agent-registry", "agent-registry-control"),
    ("appconfig", "appconfigdata"),
    ("appstream", "appstream2"),
    (
        "aws-marketplace",
        "agreement-marketplace catalog-marketplace catalog.marketplace \
         deployment-marketplace discovery-marketplace entitlement-marketplace \
         entitlement.marketplace metering-marketplace metering.marketplace \
         reporting-marketplace",
    ),
    ("awsssoportal", "portal.sso"),
    (
        "bedrock",
        "bedrock-agent bedrock-agent-runtime bedrock-data-automation \
         bedrock-data-automation-runtime bedrock-runtime",
    ),
    ("bedrock-agentcore", "bedrock-agentcore-control"),
    ("cassandra", "cassandra-streams"),
    ("chime", "identity-chime media-pipelines-chime meetings-chime messaging-chime voice-chime"),
    ("cloudhsm", "cloudhsmv2"),
    ("cloudsearch", "cloudsearchdomain"),
    ("cloudwatch", "cloudwatch-omni"),
    ("connect", "contact-lens"),
    ("detective", "api.detective"),
    ("dynamodb", "streams-dynamodb streams.dynamodb"),
    ("ecr", "api.ecr"),
    ("ecr-public", "api.ecr-public"),
    ("elasticfilesystem", "efs"),
    ("es", "aos"),
    ("events", "eventsv2"),
    ("execute-api", "participant.connect"),
    ("forecast", "forecastquery"),
    ("geo-maps", "maps.geo"),
    ("geo-places", "places.geo"),
    ("geo-routes", "routes.geo"),
    ("iam", "iam-toolbox"),
    ("iot-jobs-data", "data.jobs.iot"),
    ("iotdata", "data-ats.iot data.ats.iot data.iot"),
    ("iotdeviceadvisor", "api.iotdeviceadvisor"),
    ("iotmanagedintegrations", "api.iotmanagedintegrations"),
    ("IoTSecuredTunneling", "api.iot-tunneling api.tunneling.iot"),
    ("iotwireless", "api.iotwireless"),
    ("ivs", "ivsrealtime"),
    ("kafka", "kafka-api"),
    ("lex", "models-v2-lex models.lex runtime-v2-lex runtime.lex"),
    ("mediastore", "data.mediastore"),
    ("mediatailor", "api.mediatailor"),
    ("memorydb", "memory-db"),
    ("mgh", "migrationhub-config"),
    ("mobiletargeting", "pinpoint"),
    ("payment-cryptography", "controlplane.payment-cryptography dataplane.payment-cryptography"),
    ("personalize", "personalize-events personalize-runtime"),
    ("pricing", "api.pricing"),
    ("qapps", "data.qapps"),
    ("route53-recovery-control-config", "arc-recovery-control-config"),
    (
        "sagemaker",
        "a2i-runtime.sagemaker api.sagemaker edge.sagemaker \
         featurestore-runtime.sagemaker inferencerouter-runtime.sagemaker \
         job-runtime.sagemaker metrics.sagemaker runtime.sagemaker \
         training-session-runtime.sagemaker",
    ),
    ("servicecatalog", "servicecatalog-appregistry"),
    ("ses", "email mail-manager"),
    ("signer", "data-signer"),
    ("sms-voice", "sms-voice.pinpoint"),
    ("sso-oauth", "oidc"),
    ("sustainability", "api.sustainability"),
    ("timestream", "ingest.timestream query.timestream timestream-ingest timestream-query"),
    ("transcribe", "cn.transcribe"),
    ("wickr", "admin.wickr"),
];

#[cfg(test)]
#[path = "endpoint_tests.rs"]
mod tests;
