use super::*;

fn scope(host: &str) -> Option<(String, String)> {
    let host: Host = host.parse().expect(host);
    scope_of(&host, Some("ap-south-1")).map(|s| (s.service.to_owned(), s.region.to_owned()))
}

#[test]
fn a_host_says_its_service_and_region() {
    for (host, service, region) in [
        ("dynamodb.eu-west-1.amazonaws.com", "dynamodb", "eu-west-1"),
        ("dynamodb-fips.us-gov-west-1.amazonaws.com", "dynamodb", "us-gov-west-1"),
        ("123456789012.ddb.us-east-1.amazonaws.com", "dynamodb", "us-east-1"),
        ("sqs.ap-southeast-2.api.aws", "sqs", "ap-southeast-2"),
        ("ec2.cn-north-1.amazonaws.com.cn", "ec2", "cn-north-1"),
        ("ec2.cn-north-1.api.amazonwebservices.com.cn", "ec2", "cn-north-1"),
        ("sts.eusc-de-east-1.amazonaws.eu", "sts", "eusc-de-east-1"),
        // Names that are not the service's own.
        ("email.us-west-2.amazonaws.com", "ses", "us-west-2"),
        ("bedrock-runtime.us-east-1.amazonaws.com", "bedrock", "us-east-1"),
        ("api.ecr.us-east-1.amazonaws.com", "ecr", "us-east-1"),
        ("models-fips.lex.us-east-1.amazonaws.com", "lex", "us-east-1"),
        ("fips.batch.us-east-1.amazonaws.com", "batch", "us-east-1"),
        ("data.jobs.iot.us-east-1.amazonaws.com", "iot-jobs-data", "us-east-1"),
        ("a1b2-ats.iot.us-east-1.amazonaws.com", "iotdata", "us-east-1"),
        ("routes.geo.us-gov-west-1.us-gov.amazonaws.com", "geo-routes", "us-gov-west-1"),
        // S3 in all its forms.
        ("s3.amazonaws.com", "s3", "us-east-1"),
        ("s3.eu-central-1.amazonaws.com", "s3", "eu-central-1"),
        ("s3-us-west-2.amazonaws.com", "s3", "us-west-2"),
        ("s3-fips.dualstack.us-east-1.amazonaws.com", "s3", "us-east-1"),
        ("bucket.s3.amazonaws.com", "s3", "ap-south-1"),
        ("eu-west-1.s3.amazonaws.com", "s3", "ap-south-1"),
        ("my.dotted.bucket.s3.eu-west-1.amazonaws.com", "s3", "eu-west-1"),
        ("bucket.s3.dualstack.eu-west-1.amazonaws.com", "s3", "eu-west-1"),
        ("bucket.s3-accelerate.amazonaws.com", "s3", "ap-south-1"),
        ("bucket.s3-accelerate.dualstack.amazonaws.com", "s3", "ap-south-1"),
        ("123456789012.s3-control.eu-west-1.amazonaws.com", "s3", "eu-west-1"),
        ("point-123456789012.s3-accesspoint.eu-west-1.amazonaws.com", "s3", "eu-west-1"),
        ("f-123.s3-object-lambda.eu-west-1.amazonaws.com", "s3-object-lambda", "eu-west-1"),
        ("bucket.vpce-1a.s3.us-east-1.vpce.amazonaws.com", "s3", "us-east-1"),
        ("vpce-1a.sqs.us-east-1.vpce.amazonaws.com", "sqs", "us-east-1"),
        // One for a whole partition.
        ("iam.amazonaws.com", "iam", "us-east-1"),
        ("sts.amazonaws.com", "sts", "us-east-1"),
        ("route53.amazonaws.com", "route53", "us-east-1"),
        ("cloudfront.amazonaws.com", "cloudfront", "us-east-1"),
        ("iam.us-gov.amazonaws.com", "iam", "us-gov-west-1"),
        ("global.health.amazonaws.com", "health", "us-east-1"),
        ("savingsplans.global.api.aws", "savingsplans", "us-east-1"),
        ("route53.amazonaws.com.cn", "route53", "cn-northwest-1"),
        ("iam.global.api.amazonwebservices.com.cn", "iam", "cn-north-1"),
        // A customer's own.
        ("a1b2c3.execute-api.eu-west-1.amazonaws.com", "execute-api", "eu-west-1"),
        ("a1b2c3.lambda-url.eu-west-1.on.aws", "lambda", "eu-west-1"),
        ("search-logs-1a.eu-west-1.es.amazonaws.com", "es", "eu-west-1"),
        ("1a2b.eu-west-1.aoss.amazonaws.com", "aoss", "eu-west-1"),
    ] {
        let expected = Some((service.to_owned(), region.to_owned()));
        assert_eq!(scope(host), expected, "{host}");
    }
}

#[test]
fn what_is_no_api_of_aws_has_no_scope() {
    for host in [
        "amazonaws.com",
        "evil.test",
        "sts.amazonaws.com.evil.test",
        "evilamazonaws.com",
        "front-123.us-east-1.elb.amazonaws.com",
        "front-123.elb.us-east-1.amazonaws.com",
        "ec2-1-2-3-4.compute-1.amazonaws.com",
        "ec2-1-2-3-4.eu-west-1.compute.amazonaws.com",
        "db.abc.us-east-1.rds.amazonaws.com",
        "123456789012.dkr.ecr.us-east-1.amazonaws.com",
        "bucket.s3-website.us-east-1.amazonaws.com",
        "bucket.s3-website-us-east-1.amazonaws.com",
        "mine.accesspoint.s3-global.amazonaws.com",
        "a.b.execute-api.us-east-1.amazonaws.com",
        "evil.sts.us-east-1.amazonaws.com",
        "us-east-1.amazonaws.com",
    ] {
        assert_eq!(scope(host), None, "{host}");
    }
}
