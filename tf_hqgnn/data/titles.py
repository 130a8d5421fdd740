"""Invented film titles that show the genre and, by their noun, the finer taste within it."""

from __future__ import annotations

import numpy as np

from tf_hqgnn.types import IntArray, ObjectArray

# Genre: adjectives; nouns. A taste within a genre has a noun, so that a reader sees both levels in a title.
_WORDS = {
    "Science Fiction": (
        "Silent Orbital Quantum Distant Frozen Stellar Lost Last",
        "Starship Android Nebula Colony Asteroid Wormhole Clone Satellite Planet Reactor",
    ),
    "Western": (
        "Dusty Lonesome Wild Golden Iron Bitter Red Last",
        "Sheriff Saloon Stagecoach Gunslinger Canyon Rancher Outlaw Railroad Prairie Posse",
    ),
    "Romance": (
        "Tender Secret Endless Sweet First Forbidden Quiet Second",
        "Kiss Wedding Bouquet Valentine Waltz Honeymoon Letter Promise Bride Sweetheart",
    ),
    "Horror": (
        "Haunted Cursed Screaming Bloody Hollow Rotten Pale Midnight",
        "Crypt Zombie Coven Asylum Vampire Mirror Doll Cellar Werewolf Grave",
    ),
    "Crime": (
        "Crooked Dirty Cold Perfect Double Hidden Broken Third",
        "Heist Detective Gangster Alibi Witness Informer Forger Smuggler Verdict Ransom",
    ),
    "Animation": (
        "Tiny Brave Fluffy Magic Bouncy Silly Sleepy Happy",
        "Penguin Teapot Dragon Bunny Robot Acorn Kitten Snowman Balloon Toybox",
    ),
    "War": (
        "Fallen Burning Broken Brave Muddy Forgotten Longest Final",
        "Battalion Trench Submarine Bomber Regiment Bridge Sniper Convoy Medic Front",
    ),
    "Comedy": (
        "Awkward Clumsy Crazy Unlikely Big Loud Accidental Worst",
        "Roommate Babysitter Boss Vacation Neighbour Landlord Prank Reunion Mayor Diet",
    ),
    "Documentary": (
        "Real Untold True Hidden Changing Secret Living Inside",
        "Glacier Rainforest Factory Archive Reef Harvest Market Migration Volcano River",
    ),
    "Musical": (
        "Dazzling Singing Golden Swinging Grand Electric Velvet Broadway",
        "Chorus Tapdancer Jukebox Encore Orchestra Ballroom Songbird Overture Cabaret Melody",
    ),
    "Fantasy": (
        "Enchanted Ancient Crystal Forsaken Silver Emerald Hidden Eternal",
        "Wizard Sword Unicorn Kingdom Elf Prophecy Griffin Amulet Sorceress Labyrinth",
    ),
    "Sport": (
        "Undefeated Golden Final Winning Fearless Rookie Impossible Extra",
        "Goalkeeper Boxer Marathon Pitcher Sprinter Regatta Coach Slalom Quarterback Peloton",
    ),
    "Espionage": (
        "Double Covert Invisible Sleeping Encrypted Burned Foreign Deadly",
        "Agent Cipher Embassy Dossier Courier Defector Handler Microfilm Safehouse Mole",
    ),
    "Food": (
        "Spicy Simmering Sugared Rustic Salted Secret Roasted Sunday",
        "Bakery Noodle Chef Vineyard Chocolatier Banquet Recipe Bistro Pepper Cheesemaker",
    ),
    "Disaster": (
        "Rising Burning Sinking Trapped Raging Shattered Final Towering",
        "Avalanche Earthquake Tsunami Tornado Eruption Wildfire Flood Blackout Meteor Hurricane",
    ),
    "Courtroom": (
        "Reasonable Hostile Sworn Unanimous Silent Missing Honest Sealed",
        "Jury Advocate Testimony Objection Appeal Prosecutor Judge Inquest Clerk Pardon",
    ),
}
_PLACES = (
    *("Avalon", "Bergamo", "Calder", "Dunmore", "Elsinore", "Fairhaven", "Granada", "Halcyon", "Ithaca", "Juniper"),
    *("Kestrel", "Lisbon", "Marlow", "Norwood", "Oslo", "Palermo", "Quimper", "Ravenna", "Salem", "Tarragon"),
)

GENRES = tuple(_WORDS)


def make_titles(community: IntArray, taste: IntArray) -> ObjectArray:
    """Distinct titles.

    Args:
      community: int [I], 0 <= community < len(GENRES).
      taste: int [I], the number of the finer taste within the community.

    Returns:
      object [I] of str.

    >>> make_titles(np.array([0, 0, 3]), np.array([1, 1, 0])).tolist()
    ['Silent Android', 'The Android of Avalon', 'Haunted Crypt']
    """
    used: dict[tuple[int, int], int] = {}
    titles = []
    for genre, finer in zip(community.tolist(), taste.tolist()):
        adjectives, nouns = (words.split() for words in _WORDS[GENRES[genre]])
        key = (genre, finer % len(nouns))
        number = used.get(key, 0)
        used[key] = number + 1
        noun = nouns[key[1]]
        # Adjective and place take turns; when both are used up, sequels follow.
        adjective, place = divmod(number, 2)
        if place:
            title, sequel = f"The {noun} of {_PLACES[adjective % len(_PLACES)]}", adjective // len(_PLACES)
        else:
            title, sequel = f"{adjectives[adjective % len(adjectives)]} {noun}", adjective // len(adjectives)
        titles.append(f"{title} {sequel + 1}" if sequel else title)
    return np.array(titles, object)
