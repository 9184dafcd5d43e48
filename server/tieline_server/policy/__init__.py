"""Cedar: may this caller do this, and how much does it learn?"""
