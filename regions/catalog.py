"""The regions that ship with the product (R-10.1), as data. A team may add its own and hide the rest."""

from __future__ import annotations

from typing import NamedTuple

MAINLAND, HONG_KONG, OUTSIDE, FINANCE = "mainland", "hongkong", "outside", "finance"


class Entry(NamedTuple):
    id: str
    name: str
    scope: str
    country: str = ""


CATALOG = (
    Entry("cn-beijing", "China (Beijing)", MAINLAND),
    Entry("cn-shanghai", "China (Shanghai)", MAINLAND),
    Entry("cn-hangzhou", "China (Hangzhou)", MAINLAND),
    Entry("cn-shenzhen", "China (Shenzhen)", MAINLAND),
    Entry("cn-qingdao", "China (Qingdao)", MAINLAND),
    Entry("cn-guangzhou", "China (Guangzhou)", MAINLAND),
    Entry("cn-wulanchabu", "China (Ulanqab)", MAINLAND),
    Entry("cn-heyuan", "China (Heyuan)", MAINLAND),
    Entry("cn-chengdu", "China (Chengdu)", MAINLAND),
    Entry("cn-huhehaote", "China (Hohhot)", MAINLAND),
    Entry("cn-zhangjiakou", "China (Zhangjiakou)", MAINLAND),
    Entry("cn-hongkong", "China (Hong Kong)", HONG_KONG, "HK"),
    Entry("us-west-1", "US (Silicon Valley)", OUTSIDE, "US"),
    Entry("us-east-1", "US (Virginia)", OUTSIDE, "US"),
    Entry("ap-southeast-1", "Singapore", OUTSIDE, "SG"),
    Entry("ap-northeast-1", "Japan (Tokyo)", OUTSIDE, "JP"),
    Entry("eu-central-1", "Germany (Frankfurt)", OUTSIDE, "DE"),
    Entry("ap-southeast-3", "Malaysia (Kuala Lumpur)", OUTSIDE, "MY"),
    Entry("ap-southeast-5", "Indonesia (Jakarta)", OUTSIDE, "ID"),
    Entry("ap-southeast-6", "Philippines (Manila)", OUTSIDE, "PH"),
    Entry("eu-west-1", "UK (London)", OUTSIDE, "GB"),
    Entry("ap-northeast-2", "South Korea (Seoul)", OUTSIDE, "KR"),
    Entry("ap-southeast-7", "Thailand (Bangkok)", OUTSIDE, "TH"),
    Entry("cn-hangzhou-finance", "China East 1 Finance", FINANCE),
    Entry("cn-shanghai-finance-1", "China East 2 Finance", FINANCE),
    Entry("cn-shenzhen-finance-1", "China South 1 Finance", FINANCE),
)
