"""ROxford and RParis (Radenovic et al., CVPR 2018): easy and hard positives, junk left out."""

from . import Difficulty, Protocol

PROTOCOL = Protocol(
    lists=("easy", "hard", "junk"),
    difficulties={
        "easy": Difficulty(positive=("easy",), ignored=("junk", "hard")),
        "medium": Difficulty(positive=("easy", "hard"), ignored=("junk",)),
        "hard": Difficulty(positive=("hard",), ignored=("junk", "easy")),
    },
    main="medium",
)
