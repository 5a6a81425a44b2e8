"""Publishing: releases are put where others find them, each place complete or as it was."""
