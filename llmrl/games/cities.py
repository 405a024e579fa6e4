"""Cities with facts about them, written down for this project. Populations are rough, of the urban area."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class City:
    """Facts about a city."""

    country: str
    continent: str
    millions: float  # of people
    language: str  # that most people speak
    facts: frozenset[str]  # of capital, coast, south (of the equator), olympics (of summer, hosted)


_TABLE = """
Tokyo, Japan, Asia, 37, Japanese, capital coast olympics
Osaka, Japan, Asia, 19, Japanese, coast
Seoul, South Korea, Asia, 22, Korean, capital olympics
Beijing, China, Asia, 19, Chinese, capital olympics
Shanghai, China, Asia, 25, Chinese, coast
Hong Kong, China, Asia, 7, Chinese, coast
Singapore, Singapore, Asia, 6, English, capital coast
Hanoi, Vietnam, Asia, 8, Vietnamese, capital
Manila, Philippines, Asia, 24, Filipino, capital coast
Mumbai, India, Asia, 22, Hindi, coast
Kolkata, India, Asia, 15, Hindi,
Dubai, United Arab Emirates, Asia, 4, Arabic, coast
Ankara, Turkey, Asia, 5, Turkish, capital
Tehran, Iran, Asia, 14, Persian, capital
Baghdad, Iraq, Asia, 7, Arabic, capital
Riyadh, Saudi Arabia, Asia, 8, Arabic, capital
Kathmandu, Nepal, Asia, 3, Nepali, capital
London, United Kingdom, Europe, 11, English, capital olympics
Paris, France, Europe, 11, French, capital olympics
Marseille, France, Europe, 1.6, French, coast
Berlin, Germany, Europe, 4, German, capital olympics
Munich, Germany, Europe, 2, German, olympics
Madrid, Spain, Europe, 6, Spanish, capital
Barcelona, Spain, Europe, 5, Spanish, coast olympics
Rome, Italy, Europe, 3, Italian, capital olympics
Milan, Italy, Europe, 5, Italian,
Venice, Italy, Europe, 0.3, Italian, coast
Athens, Greece, Europe, 3, Greek, capital coast olympics
Lisbon, Portugal, Europe, 3, Portuguese, capital coast
Vienna, Austria, Europe, 2, German, capital
Prague, Czech Republic, Europe, 1.4, Czech, capital
Warsaw, Poland, Europe, 2, Polish, capital
Stockholm, Sweden, Europe, 1.7, Swedish, capital coast olympics
Oslo, Norway, Europe, 1.1, Norwegian, capital coast
Moscow, Russia, Europe, 17, Russian, capital olympics
Kyiv, Ukraine, Europe, 3, Ukrainian, capital
Dublin, Ireland, Europe, 1.3, English, capital coast
Cairo, Egypt, Africa, 20, Arabic, capital
Lagos, Nigeria, Africa, 15, English, coast
Nairobi, Kenya, Africa, 6, Swahili, capital south
Johannesburg, South Africa, Africa, 14, English, south
Casablanca, Morocco, Africa, 4, Arabic, coast
Addis Ababa, Ethiopia, Africa, 5, Amharic, capital
Accra, Ghana, Africa, 6, English, capital coast
New York, United States, North America, 21, English, coast
Los Angeles, United States, North America, 15, English, coast olympics
Chicago, United States, North America, 9, English,
Atlanta, United States, North America, 6, English, olympics
Toronto, Canada, North America, 7, English,
Montreal, Canada, North America, 4, French, olympics
Vancouver, Canada, North America, 3, English, coast
Mexico City, Mexico, North America, 21, Spanish, capital olympics
Havana, Cuba, North America, 2, Spanish, capital coast
Rio de Janeiro, Brazil, South America, 12, Portuguese, coast south olympics
Sao Paulo, Brazil, South America, 22, Portuguese, south
Buenos Aires, Argentina, South America, 16, Spanish, capital coast south
Lima, Peru, South America, 11, Spanish, capital coast south
Santiago, Chile, South America, 7, Spanish, capital south
Bogota, Colombia, South America, 10, Spanish, capital
Caracas, Venezuela, South America, 3, Spanish, capital
Sydney, Australia, Oceania, 5, English, coast south olympics
Perth, Australia, Oceania, 2, English, coast south
Auckland, New Zealand, Oceania, 1.5, English, coast south
Wellington, New Zealand, Oceania, 0.4, English, capital coast south
"""
CITIES: Mapping[str, City] = {
    name: City(country, continent, float(millions), language, frozenset(facts.split()))
    for name, country, continent, millions, language, facts in (
        map(str.strip, line.split(",")) for line in _TABLE.splitlines() if line
    )
}
ALIASES: Mapping[str, str] = {"kiev": "Kyiv", "new york city": "New York", "rio": "Rio de Janeiro"}
"""Other names, in small letters."""
