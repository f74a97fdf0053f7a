//! Endpoints: the base URL of each product in each region.

use crate::error::Error;
use url::Url;
use waygate_core::ids::RegionId;

/// The cloud's products that the client calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Product {
    Vpc,
    Ecs,
    Sts,
}

impl Product {
    /// The API version this client speaks.
    pub(crate) fn version(self) -> &'static str {
        match self {
            Self::Vpc => "2016-04-28",
            Self::Ecs => "2014-05-26",
            Self::Sts => "2015-04-01",
        }
    }

    /// The product's name in hosts and RAM policies.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Vpc => "vpc",
            Self::Ecs => "ecs",
            Self::Sts => "sts",
        }
    }
}

/// The network by which a product is reached: each has a public and a VPC endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// The public endpoint, over the Internet.
    Public,
    /// The VPC endpoint, from inside a VPC of the region; needs no Internet access.
    #[default]
    Vpc,
}

/// The base URL of every product.
#[derive(Clone, Debug)]
pub(crate) struct Endpoints {
    vpc: Url,
    ecs: Url,
    sts: Url,
}

impl Endpoints {
    /// The published endpoints of `region`, or `base` for all products.
    pub(crate) fn new(
        region: &RegionId,
        network: Network,
        base: Option<&Url>,
    ) -> Result<Self, Error> {
        let url = |product| match base {
            Some(base) => custom_endpoint(base),
            None => published_endpoint(region, network, product),
        };
        Ok(Self { vpc: url(Product::Vpc)?, ecs: url(Product::Ecs)?, sts: url(Product::Sts)? })
    }

    pub(crate) fn url_of(&self, product: Product) -> &Url {
        match product {
            Product::Vpc => &self.vpc,
            Product::Ecs => &self.ecs,
            Product::Sts => &self.sts,
        }
    }
}

fn custom_endpoint(base: &Url) -> Result<Url, Error> {
    if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
        return Err(Error::Setup(format!("the endpoint {base} is not an http or https URL")));
    }
    let mut url = base.clone();
    url.set_path("/");
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

/// The published endpoint by the naming rule. Only the public endpoints of the oldest region,
/// `cn-hangzhou`, deviate from the rule.
fn published_endpoint(region: &RegionId, network: Network, product: Product) -> Result<Url, Error> {
    let (region, name) = (region.as_str(), product.name());
    // The region becomes part of a host name, so it must not add another host.
    if region.is_empty()
        || !region
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    {
        return Err(Error::Setup(format!("{region:?} is not a region ID")));
    }
    let host = match (network, product, region) {
        (Network::Public, Product::Vpc, "cn-hangzhou") => "vpc.aliyuncs.com".to_owned(),
        (Network::Public, Product::Ecs, "cn-hangzhou") => "ecs-cn-hangzhou.aliyuncs.com".to_owned(),
        (Network::Public, ..) => format!("{name}.{region}.aliyuncs.com"),
        (Network::Vpc, ..) => format!("{name}-vpc.{region}.aliyuncs.com"),
    };
    Url::parse(&format!("https://{host}/"))
        .map_err(|error| Error::Setup(format!("the endpoint of {region}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(region: &str, network: Network, product: Product) -> String {
        let endpoints = Endpoints::new(&RegionId::new(region), network, None).unwrap();
        endpoints.url_of(product).host_str().unwrap().to_owned()
    }

    #[test]
    fn every_region_has_a_door_of_its_own_and_the_oldest_its_exceptions() {
        assert_eq!(
            host("cn-beijing", Network::Public, Product::Vpc),
            "vpc.cn-beijing.aliyuncs.com"
        );
        assert_eq!(
            host("cn-beijing", Network::Vpc, Product::Vpc),
            "vpc-vpc.cn-beijing.aliyuncs.com"
        );
        assert_eq!(
            host("cn-beijing", Network::Vpc, Product::Ecs),
            "ecs-vpc.cn-beijing.aliyuncs.com"
        );
        assert_eq!(host("cn-hangzhou", Network::Public, Product::Vpc), "vpc.aliyuncs.com");
        assert_eq!(
            host("cn-hangzhou", Network::Public, Product::Ecs),
            "ecs-cn-hangzhou.aliyuncs.com"
        );
        assert_eq!(
            host("cn-hangzhou", Network::Vpc, Product::Sts),
            "sts-vpc.cn-hangzhou.aliyuncs.com"
        );
    }

    #[test]
    fn a_region_cannot_smuggle_another_host_in() {
        for region in ["", "evil.com/", "a@b", "x#", "Cn"] {
            assert!(
                Endpoints::new(&RegionId::new(region), Network::Public, None).is_err(),
                "{region}"
            );
        }
    }

    #[test]
    fn one_base_url_serves_all_products() {
        let base = Url::parse("http://127.0.0.1:8080/x?y#z").unwrap();
        let endpoints =
            Endpoints::new(&RegionId::new("cn-beijing"), Network::Public, Some(&base)).unwrap();
        assert_eq!(endpoints.url_of(Product::Sts).as_str(), "http://127.0.0.1:8080/");
    }
}
