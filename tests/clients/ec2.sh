#!/usr/bin/env bash
# The documented EC2 procedure, by the `aws` command, against a gateway that runs the quickstart's inventory.
# Needs: aws (awscli) on PATH; ADMIN=http://127.0.0.1:8474 (the gateway's admin listener).
set -euo pipefail
export AWS_ENDPOINT_URL="${ADMIN:?}" AWS_DEFAULT_REGION=us-east-1 AWS_PAGER=""
export AWS_ACCESS_KEY_ID="${PLGW_ADMIN_PUBLIC_KEY:-test}" AWS_SECRET_ACCESS_KEY="${PLGW_ADMIN_PRIVATE_KEY:-test}"
service=com.amazonaws.vpce.us-east-1.vpce-svc-02863655456245e5c
passed=0

# is NAME WANTED GOT
is() {
    if [[ "$2" != "$3" ]]; then echo "ec2: $1: wanted \`$2\`, got \`$3\`" >&2; exit 1; fi
    passed=$((passed + 1))
}

# refused CODE COMMAND…: the command fails, and names the code
refused() {
    local code=$1 text; shift
    if text=$("$@" 2>&1); then echo "ec2: $*: wanted $code, but it succeeded" >&2; exit 1; fi
    [[ "$text" == *"($code)"* ]] || { echo "ec2: $*: wanted $code, got $text" >&2; exit 1; }
    passed=$((passed + 1))
}

# until WANTED COMMAND…: the command prints it within ten seconds
until_is() {
    local wanted=$1 got="" n; shift
    for n in $(seq 50); do
        got=$("$@")
        if [[ "$got" == "$wanted" ]]; then passed=$((passed + 1)); return; fi
        sleep 0.2
    done
    echo "ec2: $*: wanted \`$wanted\`, got \`$got\`" >&2; exit 1
}

vpc=$(aws ec2 create-vpc --cidr-block 127.5.0.0/16 --query Vpc.VpcId --output text)
aws ec2 modify-vpc-attribute --vpc-id "$vpc" --enable-dns-hostnames
is "host names are on" True "$(aws ec2 describe-vpc-attribute --vpc-id "$vpc" --attribute enableDnsHostnames --query EnableDnsHostnames.Value --output text)"
a=$(aws ec2 create-subnet --vpc-id "$vpc" --cidr-block 127.5.10.0/24 --availability-zone us-east-1a --query Subnet.SubnetId --output text)
b=$(aws ec2 create-subnet --vpc-id "$vpc" --cidr-block 127.5.20.0/24 --availability-zone us-east-1b --query Subnet.SubnetId --output text)
group=$(aws ec2 create-security-group --vpc-id "$vpc" --group-name endpoints --description "in front of Atlas" --query GroupId --output text)
aws ec2 authorize-security-group-ingress --group-id "$group" --protocol tcp --port 1024-65535 --cidr 127.5.0.0/16 > /dev/null
refused InvalidPermission.Duplicate aws ec2 authorize-security-group-ingress --group-id "$group" --protocol tcp --port 1024-65535 --cidr 127.5.0.0/16
is "the rule is there" 1024 "$(aws ec2 describe-security-groups --group-ids "$group" --query 'SecurityGroups[0].IpPermissions[0].FromPort' --output text)"

is "the service is offered" "$service" "$(aws ec2 describe-vpc-endpoint-services --service-names "$service" --query 'ServiceNames[0]' --output text)"
refused DryRunOperation aws ec2 create-vpc-endpoint --dry-run --vpc-endpoint-type Interface --vpc-id "$vpc" --service-name "$service"
refused InvalidServiceName aws ec2 create-vpc-endpoint --vpc-endpoint-type Interface --vpc-id "$vpc" --service-name com.amazonaws.vpce.us-east-1.vpce-svc-0dead000000000001
endpoint=$(aws ec2 create-vpc-endpoint --vpc-endpoint-type Interface --vpc-id "$vpc" --service-name "$service" --region us-east-1 --subnet-ids "$a" "$b" --security-group-ids "$group" --tag-specifications 'ResourceType=vpc-endpoint,Tags=[{Key=Name,Value=lab}]' --query VpcEndpoint.VpcEndpointId --output text)
state() { aws ec2 describe-vpc-endpoints --vpc-endpoint-ids "$endpoint" --query 'VpcEndpoints[0].State' --output text; }
is "it waits for the owner" pendingAcceptance "$(state)"
is "three DNS names" 3 "$(aws ec2 describe-vpc-endpoints --vpc-endpoint-ids "$endpoint" --query 'length(VpcEndpoints[0].DnsEntries)' --output text)"
is "two addresses, from the subnets" "127.5.10.4 127.5.20.4" "$(aws ec2 describe-network-interfaces --filters Name=vpc-id,Values="$vpc" --query 'NetworkInterfaces[].PrivateIpAddress' --output text | tr '\t' '\n' | sort | tr '\n' ' ' | sed 's/ $//')"
is "the owner sees it" pendingAcceptance "$(aws ec2 describe-vpc-endpoint-connections --filters Name=service-id,Values=vpce-svc-02863655456245e5c Name=vpc-endpoint-state,Values=pendingAcceptance --query "VpcEndpointConnections[?VpcEndpointId=='$endpoint'].VpcEndpointState" --output text)"
is "accepted" "[]" "$(aws ec2 accept-vpc-endpoint-connections --service-id vpce-svc-02863655456245e5c --vpc-endpoint-ids "$endpoint" --query Unsuccessful --output json)"
until_is available state
is "found by its tag" "$endpoint" "$(aws ec2 describe-vpc-endpoints --filters Name=tag:Name,Values='l*' --query 'VpcEndpoints[].VpcEndpointId' --output text)"
aws ec2 modify-vpc-endpoint --vpc-endpoint-id "$endpoint" --remove-subnet-ids "$b" > /dev/null
is "one subnet is left" "$a" "$(aws ec2 describe-vpc-endpoints --vpc-endpoint-ids "$endpoint" --query 'VpcEndpoints[0].SubnetIds' --output text)"
refused DependencyViolation aws ec2 delete-subnet --subnet-id "$a"
is "removed" "[]" "$(aws ec2 delete-vpc-endpoints --vpc-endpoint-ids "$endpoint" --query Unsuccessful --output json)"
gone() { aws ec2 describe-vpc-endpoints --filters Name=vpc-endpoint-id,Values="$endpoint" --query 'length(VpcEndpoints)' --output text; }
until_is 0 gone
refused InvalidVpcEndpointId.NotFound aws ec2 describe-vpc-endpoints --vpc-endpoint-ids "$endpoint"
aws ec2 revoke-security-group-ingress --group-id "$group" --protocol tcp --port 1024-65535 --cidr 127.5.0.0/16 > /dev/null
aws ec2 delete-security-group --group-id "$group" > /dev/null
aws ec2 delete-subnet --subnet-id "$a"
aws ec2 delete-subnet --subnet-id "$b"
aws ec2 delete-vpc --vpc-id "$vpc"
refused InvalidVpcID.NotFound aws ec2 describe-vpcs --vpc-ids "$vpc"
echo "ec2: $passed passed, 0 failed"
