//! One site's code at its limits: mirrors, balance, scaling, and HTTP across the wall.
